// Package docs checks that the documentation says what the code says.
package docs

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/FORMATS.md")

// sources are the comments that hold byte tables: whole sections of package docs, by heading, or
// with an empty one the comment that holds the given words.
var sources = []struct{ title, file, heading, words string }{
	{"Sealed bytes", "tiers/seal/seal.go", "Format", ""},
	{"Fenced log", "fence/doc.go", "Format of a record", ""},
	{"Lineage file", "fence/doc.go", "Format of the lineage file", ""},
	{"Journal", "journal/doc.go", "Format", ""},
	{"Tree directory", "tiers/doc.go", "Format", ""},
	{"NVMe directory", "tiers/nvme/nvme.go", "Files", ""},
	{"Keys of the tree", "engine/doc.go", "Keys", ""},
	{"Chunk values", "engine/doc.go", "Chunk values", ""},
	{"Attributes", "engine/doc.go", "Attributes", ""},
	{"Journal records of the engine", "engine/record.go", "", "A record of the log is"},
}

const top = `# Formats

Byte tables of everything that is stored, as the packages' own documentation has them: this file is made from it
(` + "`make golden`" + `), and a test compares the two. The part cache's index is in [nvme.md](design/nvme.md), the pair file in [DESIGN.md](DESIGN.md).
`

func TestGoldenFormats(t *testing.T) {
	var b strings.Builder
	b.WriteString(top)
	for _, s := range sources {
		text, err := os.ReadFile("../../" + s.file)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		if s.heading != "" {
			lines = section(string(text), s.heading)
		} else {
			lines = comment(string(text), s.words)
		}
		if len(lines) == 0 {
			t.Fatalf("%s: no section %q%q", s.file, s.heading, s.words)
		}
		b.WriteString("\n## " + s.title + "\n\nFrom `" + s.file + "`.\n\n" + markdown(lines))
	}
	const path = "../../docs/FORMATS.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/FORMATS.md is not what the packages' documentation says; rewrite it with make golden")
	}
}

// section returns the comment lines below a heading, up to the next one, without their slashes.
func section(text, heading string) (lines []string) {
	in := false
	for _, line := range strings.Split(text, "\n") {
		body, ok := strings.CutPrefix(line, "//")
		switch {
		case !ok && in:
			return lines
		case !ok:
		case body == " # "+heading:
			in = true
		case in && strings.HasPrefix(body, " # "):
			return lines
		case in:
			lines = append(lines, body)
		}
	}
	return lines
}

// comment returns the lines of the comment that holds words.
func comment(text, words string) (lines []string) {
	for _, line := range strings.Split(text, "\n") {
		body, ok := strings.CutPrefix(line, "//")
		if ok {
			lines = append(lines, body)
			continue
		}
		if strings.Contains(strings.Join(lines, "\n"), words) {
			return lines
		}
		lines = nil
	}
	return nil
}

// markdown turns comment lines into paragraphs and blocks.
func markdown(lines []string) string {
	var b strings.Builder
	block := false
	for _, line := range strings.Split(strings.Trim(strings.Join(lines, "\n"), "\n"), "\n") {
		code := strings.HasPrefix(line, "\t")
		if code != block && (code || line != "") {
			b.WriteString("```\n")
			block = code
		}
		if code {
			line = line[1:]
		} else {
			line = strings.TrimPrefix(line, " ")
		}
		b.WriteString(line + "\n")
	}
	if block {
		b.WriteString("```\n")
	}
	return strings.ReplaceAll(b.String(), "\n\n```\n\n", "\n```\n\n")
}
