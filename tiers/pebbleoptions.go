package tiers

import "github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"

// ReadaheadConfig is what Pebble's Options.Local.ReadaheadConfig must be on an FS: compactions open
// their inputs as streams, and for all other reads the FS itself tells what to fetch ahead. With
// Pebble's default, long scans would be streams too, and leave nothing in the part cache.
func ReadaheadConfig() *objstorageprovider.ReadaheadConfig {
	c := objstorageprovider.NewReadaheadConfig()
	c.Set(objstorageprovider.FadviseSequential, objstorageprovider.NoReadahead)
	return c
}
