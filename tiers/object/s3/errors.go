package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"zerofs/tiers/object"
)

// codes gives the kinds of error codes whose HTTP status does not tell.
var codes = map[string]object.Kind{
	"NoSuchKey":                  object.NotFound,
	"NotFound":                   object.NotFound,
	"NoSuchBucket":               object.Fatal,
	"NoSuchUpload":               object.Transient, // aborted by another, or completed by a request whose answer was lost
	"PreconditionFailed":         object.Exists,
	"ConditionalRequestConflict": object.Transient, // a rival's put is under way
	"OperationAborted":           object.Transient,
	"RequestTimeout":             object.Transient, // 400: the body came too slowly
	"RequestTimeTooSkewed":       object.Transient, // the SDK learns the difference from the answer
	"ExpiredToken":               object.Transient, // credentials of a role are renewed
	"IncompleteBody":             object.Transient,
	"BadDigest":                  object.Transient, // a bit flipped on the way
	"XAmzContentSHA256Mismatch":  object.Transient,
	"SlowDown":                   object.Transient,
	"Throttling":                 object.Transient,
	"InternalError":              object.Transient,
	"ServiceUnavailable":         object.Transient,
}

// failed makes the error of a request out of what the SDK returned.
func failed(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &object.Error{Op: op, Key: key, Kind: kindOf(err), Err: err}
}

// kindOf classes an error of the SDK: by its code, by its HTTP status, and without an answer as
// Transient, since everything between here and the server may get well.
func kindOf(err error) object.Kind {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if kind, ok := codes[api.ErrorCode()]; ok {
			return kind
		}
	}
	switch status := statusOf(err); {
	case status == http.StatusNotFound:
		return object.NotFound
	case status == http.StatusPreconditionFailed:
		return object.Exists
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return object.Denied
	case status == http.StatusTemporaryRedirect, // of a new bucket, until names have spread
		status == http.StatusConflict, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return object.Transient
	case status == http.StatusNotImplemented:
		return object.Fatal
	case status >= 300 && status < 500:
		return object.Fatal
	}
	return object.Transient
}

// statusOf returns the HTTP status of the answer that err reports, 0 without one.
func statusOf(err error) int {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && re.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// headerOf returns a header of the answer that err reports.
func headerOf(err error, name string) string {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && re.Response != nil {
		return re.Response.Header.Get(name)
	}
	return ""
}

// answerOf returns the answer behind a result, nil if there is none.
func answerOf(meta middleware.Metadata) *http.Response {
	if r, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response); ok && r != nil {
		return r.Response
	}
	return nil
}

// statusOfAnswer returns the HTTP status of a result, 0 if there is none.
func statusOfAnswer(meta middleware.Metadata) int {
	if r := answerOf(meta); r != nil {
		return r.StatusCode
	}
	return 0
}

// dateOf returns the server's clock when it answered, zero if it did not say.
func dateOf(meta middleware.Metadata) time.Time {
	if r := answerOf(meta); r != nil {
		return parseDate(r.Header.Get("Date"))
	}
	return time.Time{}
}

func parseDate(s string) time.Time {
	t, err := http.ParseTime(s)
	if err != nil {
		return time.Time{}
	}
	return t
}
