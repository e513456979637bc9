package config

import (
	_ "embed"
	"strings"
)

//go:embed tiers.toml
var template string

// Template is the commented file that "zerofs init" writes: a volume at url whose local
// directories are below dir and whose password is read from passwordFile. It loads as it stands.
func Template(url, dir, passwordFile string) string {
	return strings.NewReplacer("@URL@", quote(url), "@DIR@", quote(dir), "@PASSWORD_FILE@", quote(passwordFile)).Replace(template)
}

// quote writes s as a TOML basic string. A "${" in s stays what it is.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ReplaceAll(s, "${", "$${") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			const hex = "0123456789abcdef"
			b.WriteString(`\u00`)
			b.WriteByte(hex[r>>4&15])
			b.WriteByte(hex[r&15])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
