package main

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"zerofs/config"
)

// cmdInit writes tiers.toml and a password file, and never overwrites.
func cmdInit(args []string, stdout, stderr io.Writer) error {
	fs := newFlags("init", `init [-url URL] [DIR]

Writes DIR/tiers.toml, a commented configuration, and DIR/password, a new strong password that only
you can read. DIR is the current directory unless given. Nothing is overwritten.`, stderr)
	url := fs.String("url", "", "where the volume lives: s3://bucket/prefix or file:///path (default: a directory below DIR)")
	if err := parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 1 {
		return badUsage("init: want one directory, got %d", fs.NArg())
	}
	dir := orDefault(fs.Arg(0), ".")
	path, err := writeConfig(dir, *url)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "wrote %s and %s\n\nKeep a copy of the password elsewhere: without it the data cannot be read.\nEdit the file, then start the volume:\n\n  zerofs -config %s\n",
		path, filepath.Join(filepath.Dir(path), "password"), path)
	return nil
}

// writeConfig makes dir with a configuration and a password, and returns the former's path.
func writeConfig(dir, url string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path, pw := filepath.Join(dir, "tiers.toml"), filepath.Join(dir, "password")
	for _, p := range []string{path, pw} {
		if _, err := os.Lstat(p); err == nil {
			return "", fmt.Errorf("%s exists; it is not overwritten", p)
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	if url == "" {
		url = "file://" + filepath.Join(dir, "store")
	}
	secret, err := newPassword()
	if err != nil {
		return "", err
	}
	if err := writeNew(pw, secret+"\n"); err != nil {
		return "", err
	}
	return path, writeNew(path, config.Template(url, filepath.Join(dir, "data"), pw))
}

// newPassword returns 200 random bits in letters and digits.
func newPassword() (string, error) {
	var b [25]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return base32.StdEncoding.EncodeToString(b[:]), nil
}

// writeNew creates a file that only its owner can read; an existing one is an error.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
