package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// versionInfo is what "zerofs version -json" prints.
type versionInfo struct {
	Version  string `json:"version"`  // of the module, or "devel"
	Revision string `json:"revision"` // of the source; empty when the build did not note it
	Format   int    `json:"format"`   // newest volume format that this program reads and writes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// volumeFormat is the volume format of this program.
const volumeFormat = 1

func version() versionInfo {
	v := versionInfo{Version: "devel", Format: volumeFormat, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func cmdVersion(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("version", "version [-json]\n\nPrints the program's version and the volume format that it speaks.", stderr)
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return badUsage("version: unexpected %q", fs.Arg(0))
	}
	v := version()
	if *asJSON {
		return printJSON(stdout, v)
	}
	fmt.Fprintf(stdout, "zerofs %s %s (volume format %d, %s, %s/%s)\n", v.Version, v.Revision, v.Format, v.Go, v.OS, v.Arch)
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
