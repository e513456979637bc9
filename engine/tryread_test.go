package engine

import (
	"bytes"
	"testing"
)
