package disk

import (
	"errors"
	"fmt"
	"syscall"
)

// fullError is an error of a full disk: it matches ErrFull and what it wraps.
type fullError struct{ err error }

func (e *fullError) Error() string        { return fmt.Sprintf("%v: %v", ErrFull, e.err) }
func (e *fullError) Unwrap() error        { return e.err }
func (e *fullError) Is(target error) bool { return target == ErrFull }

// markFull makes an error that stems from a full disk or quota match ErrFull. Others, nil
// included, stay as they are.
func markFull(err error) error {
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &fullError{err}
	}
	return err
}

// opError says what was tried on which file.
func opError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return markFull(fmt.Errorf("disk: %s %s: %w", op, name, err))
}
