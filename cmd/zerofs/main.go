// Command zerofs runs a volume: block devices whose primary storage is an object store.
//
//	zerofs run                        a volume on this machine alone, nothing to set up
//	zerofs init [DIR]                 write a commented tiers.toml and a password file
//	zerofs -config tiers.toml         run the volume that the file describes
//	zerofs URL                        run the volume at URL, described by the environment
//	zerofs mount -config FILE DIR     mount the volume on a directory of this machine; also zerofs mount URL DIR
//	zerofs status [-config FILE]      what a running volume does
//	zerofs fence status|accept        who owns the volume; open devices after a lossy takeover
//	zerofs version
//
// Exit statuses are the Exit constants.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Exit statuses.
const (
	ExitOK          = 0 // clean stop
	ExitOther       = 1 // any other error
	ExitUsage       = 2 // bad config or usage
	ExitPassword    = 3 // wrong password
	ExitOwned       = 4 // volume owned by another, and takeover = "never"
	ExitInUse       = 5 // data directory in use by another process
	ExitFenced      = 6 // fenced while running
	ExitStore       = 7 // store unusable
	ExitNotUploaded = 8 // stopped with changes not uploaded
	ExitDirs        = 9 // directories that do not belong together, or a store rolled back
)

const usage = `ZeroFS: block devices on an object store, always encrypted.

usage:
  zerofs run [-dir DIR]                run a volume on this machine alone, nothing to set up
  zerofs init [-url URL] [DIR]         write a commented tiers.toml and a password file
  zerofs -config FILE                  run the volume that FILE describes
  zerofs URL                           run the volume at URL, described by the environment
  zerofs mount (-config FILE | URL) DIR  mount the volume on DIR
  zerofs status [-json] [-config FILE | -socket PATH]
  zerofs fence status [-json] [-config FILE | URL]
  zerofs fence accept [-config FILE | -socket PATH]
  zerofs version [-json]

Every command explains itself with -h.
`

func main() {
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs one command line and returns the exit status.
func dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return ExitUsage
	}
	var err error
	switch args[0] {
	case "run":
		err = cmdRunDefault(args[1:], stdout, stderr)
	case "init":
		err = cmdInit(args[1:], stdout, stderr)
	case "mount":
		err = cmdMount(args[1:], stderr)
	case "status":
		err = cmdStatus(args[1:], stdout, stderr)
	case "fence":
		err = cmdFence(args[1:], stdout, stderr)
	case "version":
		err = cmdVersion(args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return ExitOK
	default:
		err = cmdRun(args, stderr)
	}
	return report(err, stderr)
}

// usageError is a command line that cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func badUsage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// report prints err, if there is one, and returns its exit status.
func report(err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	fmt.Fprintf(stderr, "zerofs: %v\n", err)
	var u *usageError
	if errors.As(err, &u) {
		fmt.Fprintln(stderr, `"zerofs -h" lists the commands.`)
	}
	return exitStatus(err)
}

// newFlags returns a flag set whose -h prints synopsis, text and the flags.
func newFlags(name, text string, out io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprintf(out, "usage: zerofs %s\n\n", strings.TrimSpace(text))
		fs.PrintDefaults()
	}
	return fs
}

// parse parses flags; a mistake has been printed by the flag package and is a usage error.
func parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return &usageError{err.Error()}
}
