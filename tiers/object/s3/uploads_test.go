package s3_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"zerofs/test/versitygw"
)

// raw returns a client that is not ours.
func raw(v *versitygw.Server) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: v.Region, BaseEndpoint: aws.String(v.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(v.AccessKeyID, v.SecretAccessKey, ""),
	})
}

// uploads returns the keys of unfinished multipart uploads.
func uploads(t *testing.T, v *versitygw.Server) []string {
	t.Helper()
	out, err := raw(v).ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &v.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, u := range out.Uploads {
		keys = append(keys, *u.Key)
	}
	return keys
}

// begin begins a multipart upload and leaves it.
func begin(t *testing.T, v *versitygw.Server, key string) {
	t.Helper()
	_, err := raw(v).CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: &v.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
}
