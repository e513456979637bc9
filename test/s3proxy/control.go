package s3proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Control returns a handler that programs in other languages steer the proxy by:
//
//	GET  /stats    the counts
//	POST /reset    sets them to zero and answers them as they were
//	POST /set?latency_ms=20&jitter_ms=5&err_pct=1&drop_pct=0&mbps=2400&outage=0
//	               changes the settings named, answers all; mbps is megabits a second
func (p *Proxy) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Stats()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Reset()) })
	mux.HandleFunc("POST /set", func(w http.ResponseWriter, r *http.Request) {
		s := p.Settings()
		if err := s.change(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.Set(s)
		answerJSON(w, s)
	})
	return mux
}

// change sets what the query names.
func (s *Settings) change(q url.Values) error {
	for name := range q {
		f, err := strconv.ParseFloat(q.Get(name), 64)
		if err != nil || !(f >= 0 && f < 1e9) {
			return fmt.Errorf("%s: want a number of 0 or more", name)
		}
		switch name {
		case "latency_ms":
			s.Latency = time.Duration(f * float64(time.Millisecond))
		case "jitter_ms":
			s.Jitter = time.Duration(f * float64(time.Millisecond))
		case "err_pct":
			s.ErrorRate = f / 100
		case "drop_pct":
			s.DropRate = f / 100
		case "mbps":
			s.BytesPerSecond = int64(f * 125_000)
		case "outage":
			s.Outage = f != 0
		default:
			return fmt.Errorf("%s: no such setting", name)
		}
	}
	return nil
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client went away
}
