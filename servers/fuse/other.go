//go:build !linux

package fuse

import (
	"context"
	"errors"
	"fmt"
)

// Server is a mount; there is none on this system.
type Server struct{}

// Mount fails: only Linux's FUSE is served.
func Mount(context.Context, Options) (*Server, error) {
	return nil, fmt.Errorf("fuse: only on Linux: %w", errors.ErrUnsupported)
}

// Done is never called.
func (s *Server) Done() <-chan struct{} { return nil }

// Unmount is never called.
func (s *Server) Unmount(context.Context) error { return nil }

// Stats is never called.
func (s *Server) Stats() Stats { return Stats{} }
