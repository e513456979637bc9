package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"zerofs/config"
	"zerofs/fence"
	"zerofs/servers/admin"
	"zerofs/tiers/object"
)

// socketOf finds the admin socket: named, or of the configuration.
func socketOf(socket, path string) (string, error) {
	switch {
	case socket != "" && path != "":
		return "", badUsage("want -socket or -config, not both")
	case socket != "":
		return socket, nil
	case path != "":
		cfg, err := config.Load(path, config.RealHost())
		if err != nil {
			return "", err
		}
		return cfg.Admin.UnixSocket, nil
	}
	def, err := defaultConfigPath()
	if err != nil {
		return "", err
	}
	cfg, err := config.Load(def, config.RealHost())
	if err != nil {
		return "", badUsage("which volume? want -config FILE or -socket PATH (and there is no default one: %v)", err)
	}
	return cfg.Admin.UnixSocket, nil
}

func cmdStatus(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("status", `status [-json] [-config FILE | -socket PATH]

Asks a running volume what it does. Without -config or -socket it is the volume of "zerofs run".`, stderr)
	asJSON := fs.Bool("json", false, "print one JSON object (fields: docs/STATUS.md)")
	path := fs.String("config", "", "the configuration `file` that the volume runs with")
	socket := fs.String("socket", "", "`path` of its admin socket")
	if err := parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return badUsage("status: unexpected %q", fs.Arg(0))
	}
	sock, err := socketOf(*socket, *path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body, err := admin.Call(ctx, sock, "GET", "/status")
	if err != nil {
		return err
	}
	if *asJSON {
		_, err := stdout.Write(body)
		return err
	}
	var r statusReport
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	printStatus(stdout, r)
	return nil
}

func printStatus(w io.Writer, r statusReport) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("volume", "%s", r.URL)
	phase := r.Phase
	if r.WaitingFor != "" {
		phase += fmt.Sprintf(", waiting for %s since %.0f s", r.WaitingFor, r.WaitingSeconds)
	}
	line("state", "%s (pid %d)", phase, r.PID)
	if v := r.Volume; v != nil {
		if v.Failed != "" {
			line("failed", "%s", v.Failed)
		}
		line("owner", "%s, epoch %d, lease %s, up %s", v.Owner, v.Epoch, v.Lease, v.Uptime.Round(time.Second))
		if v.Refused {
			line("closed", `after a takeover that may have lost writes; "zerofs fence accept" opens the devices`)
		}
		line("durability", "%s; LSN %d, durable to %d, in the bucket to %d, lag %.1f s", v.Durability, v.LastLSN, v.DurableLSN, v.CoveredLSN, v.LagSeconds)
		line("journal", "%s of %s", mib(v.JournalUsed), mib(v.JournalSize))
		line("nvme", "dirty %s, clean %s, parts %s of %s", mib(v.NVMe.Dirty), mib(v.NVMe.Clean), mib(v.NVMe.Parts), mib(v.NVMe.Size))
		line("memory", "%s, %d hits, %d misses", mib(v.Memory.Bytes), v.Memory.Hits, v.Memory.Misses)
		line("pressure", "%.2f", v.Pressure)
	}
	if q := r.Requests; q != nil {
		line("requests", "%d (%d put, %d get, %d list, %d errors), %s up, %s down", q.Requests(), q.Put+q.UploadPart, q.Get, q.List, q.Errors, mib(q.BytesUp), mib(q.BytesDown))
	}
	for _, d := range r.Devices {
		line("device", "%s, %s", d.Name, config.FormatSize(d.SizeBytes))
	}
	for _, a := range r.Listeners {
		line("listening", "%s", a)
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func cmdFence(args []string, stdout, stderr io.Writer) error {
	const help = `fence status [-json] [-config FILE | URL]
   or: zerofs fence accept [-config FILE | -socket PATH]

"status" reads from the store who owns the volume, without claiming it. "accept" opens the devices
of a running volume which after_loss = "refuse" keeps closed after a takeover that may have lost writes.`
	fs := newFlags("fence", help, stderr)
	if len(args) == 0 {
		fs.Usage()
		return badUsage("fence: want status or accept")
	}
	switch args[0] {
	case "status":
		return cmdFenceStatus(args[1:], stdout, stderr)
	case "accept":
		return cmdFenceAccept(args[1:], stdout, stderr)
	case "-h", "-help", "--help":
		fs.Usage()
		return nil
	}
	return badUsage("fence: unknown %q: want status or accept", args[0])
}

// fenceReport is what "zerofs fence status -json" prints; docs/STATUS.md says what each field means.
type fenceReport struct {
	Volume string `json:"volume_id"`
	URL    string `json:"url"`
	fence.Status
}

func cmdFenceStatus(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("fence status", "fence status [-json] [-config FILE | URL]\n\nReads from the store who owns the volume, without claiming it.", stderr)
	asJSON := fs.Bool("json", false, "print one JSON object (fields: docs/STATUS.md)")
	path := fs.String("config", "", "the configuration `file`")
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := loadConfig(*path, fs.Args(), config.StoreFromEnv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	store, err := openStore(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	sealed, err := openVolume(ctx, cfg, store, false)
	if err != nil {
		return err
	}
	st, err := fence.Inspect(ctx, store, sealed.Key, sealed.ID)
	if err != nil {
		return storeError(err)
	}
	r := fenceReport{Volume: fmt.Sprintf("%x", sealed.ID), URL: cfg.Volume.URL, Status: st}
	if *asJSON {
		return printJSON(stdout, r)
	}
	held := "owned"
	if st.Released {
		held = "released"
	}
	fmt.Fprintf(stdout, "%s: %s by %s, epoch %d, lease %s, last record %d, %s old\n", cfg.Volume.URL, held, st.Owner, st.Epoch, st.Lease, st.Head, st.HeadAge.Round(time.Second))
	fmt.Fprintf(stdout, "in the bucket: LSN %d in %d table files (%s), to LSN %d with what was shipped\n", st.LSN, st.Tables, mib(st.Bytes), st.Covered)
	return nil
}

func cmdFenceAccept(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("fence accept", "fence accept [-config FILE | -socket PATH]\n\nOpens devices that a takeover which may have lost writes has closed.", stderr)
	path := fs.String("config", "", "the configuration `file` that the volume runs with")
	socket := fs.String("socket", "", "`path` of its admin socket")
	if err := parse(fs, args); err != nil {
		return err
	}
	sock, err := socketOf(*socket, *path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body, err := admin.Call(ctx, sock, "POST", "/fence/accept")
	if err != nil {
		return err
	}
	var answer struct{ Accepted bool }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("fence accept: %w", err)
	}
	if answer.Accepted {
		fmt.Fprintln(stdout, "devices are open")
	} else {
		fmt.Fprintln(stdout, "devices were open already")
	}
	return nil
}

// storeError marks errors of the store as such.
func storeError(err error) error {
	for _, kind := range []error{object.ErrTransient, object.ErrDenied, object.ErrFatal, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", errStore, err)
		}
	}
	return err
}
