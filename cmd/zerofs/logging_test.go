package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/config"
)

func TestRepeatedErrorsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newLogger(&out, config.Log{Format: "json"})
		for range 100 {
			log.With("a", 1).Error("same")
			log.Info("told always")
		}
		log.Warn("another")
		if n := strings.Count(out.String(), `"same"`); n != repeatBurst {
			t.Errorf("%d lines of the same error, want %d", n, repeatBurst)
		}
		if n := strings.Count(out.String(), "told always"); n != 100 {
			t.Errorf("%d lines at info, want 100", n)
		}
		if !strings.Contains(out.String(), "another") {
			t.Error("another warning is missing")
		}
		time.Sleep(repeatWindow)
		out.Reset()
		log.Error("same")
		var line struct{ Repeated int }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Repeated != 100-repeatBurst {
			t.Errorf("after the window: %s (%v)", out.String(), err)
		}
	})
}

func TestLevels(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, config.Log{Level: slog.LevelError, Format: "text"}).Warn("quiet")
	if out.Len() > 0 {
		t.Errorf("below the level: %s", out.String())
	}
}

func TestWaitingIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := &waits{log: newLogger(&out, config.Log{Format: "text"})}
		done := w.begin("lease")
		time.Sleep(waitFirst - time.Millisecond)
		synctest.Wait()
		if out.Len() > 0 {
			t.Errorf("told too soon: %s", out.String())
		}
		time.Sleep(2*waitEvery + 2*time.Millisecond)
		synctest.Wait()
		if what, d := w.now(); what != "lease" || d < 2*waitEvery {
			t.Errorf("now: %q %v", what, d)
		}
		done()
		for _, want := range []string{"for=lease seconds=2\n", "for=lease seconds=12\n", "for=lease seconds=22\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in %s", want, out.String())
			}
		}
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("%d lines, want 3", n)
		}
		if what, _ := w.now(); what != "" {
			t.Errorf("still waits for %q", what)
		}
		time.Sleep(time.Minute)
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Error("told after it was over")
		}
	})
}
