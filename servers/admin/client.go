package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Call sends one request to the admin socket at path and returns the body. An answer other than
// 200 is an error that quotes it.
func Call(ctx context.Context, socket, method, url string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+url, nil)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("admin: %s: %w (is zerofs running with this data directory?)", socket, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("admin: %s: %w", socket, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("admin: %s: %s: %s", url, res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
