package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zerofs/tiers/object"
)

// errPageFull ends a walk.
var errPageFull = errors.New("page is full")

// List returns at most object.PageMax entries in ascending byte order of their keys.
func (s *Store) List(ctx context.Context, prefix, after string) (object.Page, error) {
	w := walk{s: s, ctx: ctx, prefix: prefix, after: after}
	w.page.Date = s.now()
	dir, _, _ := cutLast(prefix)
	err := ctx.Err()
	if err == nil && (dir == "" || object.CheckKey(dir) == nil) {
		err = w.dir(dir)
	}
	if errors.Is(err, errPageFull) {
		w.page.Next = w.page.Entries[len(w.page.Entries)-1].Key
		err = nil
	}
	if err == nil {
		err = s.present() // what was absent on the way counts only now
	}
	if err != nil {
		return object.Page{}, failed(object.OpList, prefix, err)
	}
	return w.page, nil
}

// cutLast splits a prefix at its last slash.
func cutLast(prefix string) (dir, rest string, found bool) {
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		return prefix[:i], prefix[i+1:], true
	}
	return "", prefix, false
}

// walk is one listing on its way.
type walk struct {
	s             *Store
	ctx           context.Context
	prefix, after string
	page          object.Page
}

// dir lists a directory, "" for the whole store, in the order of keys. One that does not exist is empty.
func (w *walk) dir(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(w.s.dir, filepath.FromSlash(dir)))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range w.wanted(dir, entries) {
		if sub, ok := strings.CutSuffix(key, "/"); ok {
			err = w.dir(sub)
		} else {
			err = w.file(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wanted returns, in order, the keys of files in dir and the prefixes (with a slash at the end) of
// directories in it that belong to the listing.
func (w *walk) wanted(dir string, entries []fs.DirEntry) []string {
	if dir != "" {
		dir += "/"
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		key := dir + e.Name()
		switch {
		case hidden(e.Name()):
		case e.IsDir():
			// "x/" comes where its keys do: after "x-y", before "x0".
			key += "/"
			inPrefix := strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)
			if inPrefix && (key > w.after || strings.HasPrefix(w.after, key)) {
				keys = append(keys, key)
			}
		case strings.HasPrefix(key, w.prefix) && key > w.after:
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// file adds an object to the page. The first that no longer fits ends the walk.
func (w *walk) file(key string) error {
	if len(w.page.Entries) == object.PageMax {
		return errPageFull
	}
	fi, err := os.Lstat(w.s.path(key))
	if absent(err) {
		return nil // deleted since
	}
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() && object.CheckKey(key) == nil {
		w.page.Entries = append(w.page.Entries, object.Entry{Key: key, Size: fi.Size(), Modified: fi.ModTime()})
	}
	return nil
}
