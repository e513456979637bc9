package ninep

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGoldenTranscripts compares whole sessions, byte for byte, with testdata.
func TestGoldenTranscripts(t *testing.T) {
	zeros := make([]byte, 48)
	for name, says := range map[string][][]byte{
		"session": {
			say(msgTversion, 0xffff, uint32(65536), version),
			say(msgTauth, 1, uint32(9), "root", "", uint32(0)),
			say(msgTattach, 1, uint32(0), noFid, "nobody", "", uint32(0)),
			say(msgTstatfs, 1, uint32(0)),
			say(msgTwalk, 1, uint32(0), uint32(1), []string{}),
			say(msgTlcreate, 1, uint32(1), "file", uint32(0o102), uint32(0o644), uint32(5)),
			say(msgTwrite, 1, uint32(1), uint64(2), uint32(5), []byte("hello")),
			say(msgTread, 1, uint32(1), uint64(0), uint32(100)),
			say(msgTfsync, 1, uint32(1), uint32(1)),
			say(msgTgetattr, 1, uint32(1), uint64(getAll)),
			say(msgTsetattr, 1, uint32(1), uint32(setMode|setSize|setMtime), uint32(0o600), uint32(0), uint32(0), uint64(3), zeros[:32]),
			say(msgTlock, 1, uint32(1), uint8(1), uint32(0), uint64(5), uint64(10), uint32(77), "host"),
			say(msgTgetlock, 1, uint32(1), uint8(1), uint64(0), uint64(0), uint32(78), "host"),
			say(msgTclunk, 1, uint32(1)),
			say(msgTclunk, 1, uint32(1)),
		},
		"names": {
			say(msgTversion, 0xffff, uint32(8192), version),
			say(msgTattach, 1, uint32(0), noFid, "", "/", uint32(1000)),
			say(msgTmkdir, 1, uint32(0), "dir", uint32(0o755), uint32(5)),
			say(msgTsymlink, 1, uint32(0), "link", "dir/x", uint32(5)),
			say(msgTmknod, 1, uint32(0), "fifo", uint32(0o010600), uint32(0), uint32(0), uint32(5)),
			say(msgTmknod, 1, uint32(0), "null", uint32(0o020666), uint32(1), uint32(3), uint32(5)),
			say(msgTwalk, 1, uint32(0), uint32(1), []string{"dir", "..", "link"}),
			say(msgTreadlink, 1, uint32(1)),
			say(msgTlink, 1, uint32(0), uint32(1), "again"),
			say(msgTrenameat, 1, uint32(0), "again", uint32(0), "other"),
			say(msgTunlinkat, 1, uint32(0), "other", uint32(0)),
			say(msgTunlinkat, 1, uint32(0), "dir", uint32(0)),
			say(msgTunlinkat, 1, uint32(0), "dir", uint32(unlinkDir)),
			say(msgTwalk, 1, uint32(0), uint32(2), []string{}),
			say(msgTlopen, 1, uint32(2), uint32(openDirectory)),
			say(msgTreaddir, 1, uint32(2), uint64(0), uint32(4096)),
			say(msgTxattrcreate, 1, uint32(1), "user.a", uint64(1), uint32(1)),
			say(msgTwrite, 1, uint32(1), uint64(0), uint32(1), []byte("v")),
			say(msgTclunk, 1, uint32(1)),
			say(msgTwalk, 1, uint32(0), uint32(1), []string{"link"}),
			say(msgTxattrwalk, 1, uint32(1), uint32(3), ""),
			say(msgTread, 1, uint32(3), uint64(0), uint32(100)),
			say(msgTrename, 1, uint32(1), uint32(0), "renamed"),
			say(msgTremove, 1, uint32(1)),
			say(msgTflush, 1, uint16(2)),
		},
		"unknown": {say(msgTversion, 0xffff, uint32(8192), "9P2000")},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			inBubble(t, func(r *rig) {
				p := r.dial()
				for _, s := range says {
					fmt.Fprintf(&got, "client\n%s", hex.Dump(s))
					p.send(s)
					fmt.Fprintf(&got, "server\n%s", hex.Dump(p.heard()))
				}
			})
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}
