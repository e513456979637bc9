package object

import (
	"context"
	"errors"
)

// KindOf returns the kind of err, 0 for nil. An ended context is Transient; an error that did not
// come from a Store is Fatal.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Transient
	}
	return Fatal
}

// String names the kind in one word.
func (k Kind) String() string {
	switch k {
	case 0:
		return "none"
	case Transient:
		return "transient"
	case NotFound:
		return "not-found"
	case Exists:
		return "exists"
	case Denied:
		return "denied"
	default:
		return "fatal"
	}
}
