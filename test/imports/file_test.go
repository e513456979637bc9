package imports

import (
	"os"
	"strings"
	"testing"
)

// checkFile reports the banned words in a source file's code, comments left out.
func checkFile(t *testing.T, path string, banned []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		code, _, _ := strings.Cut(line, "//")
		for _, b := range banned {
			if strings.Contains(code, b) {
				t.Errorf("%s:%d: %s: inject it instead", path, i+1, b)
			}
		}
	}
}
