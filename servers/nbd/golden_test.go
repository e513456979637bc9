package nbd

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

// TestTranscripts compares whole sessions, byte for byte, with testdata.
func TestTranscripts(t *testing.T) {
	goTo := func(name string) []byte { return encodeOption(optGo, encodeInfo(name, infoBlockSize)) }
	req := func(cmd, flags uint16, cookie, off uint64, n uint32, payload ...byte) []byte {
		return append(encodeRequest(header{cmd: cmd, flags: flags, cookie: cookie, off: off, length: n}), payload...)
	}
	disc := req(cmdDisc, 0, 0, 0, 0)
	for name, says := range map[string][][]byte{
		"simple": {
			{0, 0, 0, 3}, goTo("a"),
			req(cmdWrite, cmdFlagFUA, 1, 8, 4, 1, 2, 3, 4), req(cmdRead, 0, 2, 6, 8), req(cmdFlush, 0, 3, 0, 0),
			req(cmdTrim, 0, 4, 9, 2), req(cmdWriteZeroes, cmdFlagNoHole, 5, 11, 1), req(cmdRead, 0, 6, 8, 4),
			req(cmdCache, 0, 7, 0, 4096), req(cmdRead, 0, 8, 1<<20, 1), req(cmdWrite, 0, 9, 1<<20, 1, 9), req(99, 0, 10, 0, 0),
			disc,
		},
		"structured": {
			{0, 0, 0, 3}, encodeOption(optStructuredReply, nil), encodeOption(optListMetaContext, encodeMeta("a")),
			encodeOption(optSetMetaContext, encodeMeta("a", contextAllocation)), goTo("a"),
			req(cmdWrite, 0, 1, 4096, 4, 1, 2, 3, 4), req(cmdRead, cmdFlagDF, 2, 4094, 8), req(cmdRead, 0, 3, 0, 0),
			req(cmdBlockStatus, 0, 4, 0, 1<<20), req(cmdBlockStatus, cmdFlagReqOne, 5, 4096, 8192),
			req(cmdRead, 0, 6, 1<<20, 1), req(cmdBlockStatus, 0, 7, 0, 0), req(cmdWriteZeroes, cmdFlagFastZero, 8, 1<<20, 1),
			disc,
		},
		"export-name": {{0, 0, 0, 1}, encodeOption(optExportName, []byte("b")), req(cmdFlush, 0, 1, 0, 0), disc},
		"haggling": {
			{0, 0, 0, 3}, encodeOption(optList, nil), encodeOption(optStartTLS, nil), encodeOption(1234, []byte("?")),
			encodeOption(optInfo, encodeInfo("", infoName, infoDescription, infoBlockSize)), goTo("nobody"),
			encodeOption(optAbort, nil),
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			inBubble(t, &Server{Exports: twoDevices()}, Options{DefaultExport: "a"}, func(r *rig) {
				p := r.dial()
				writeTranscript(&got, "server", p.heard())
				for _, say := range says {
					writeTranscript(&got, "client", say)
					writeTranscript(&got, "server", p.ask(say))
				}
				fmt.Fprintf(&got, "hung up: %v\n", p.gone())
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

func writeTranscript(w *bytes.Buffer, who string, p []byte) {
	if len(p) > 0 {
		fmt.Fprintf(w, "%s\n%s", who, hex.Dump(p))
	}
}
