// Package objecttest tests object stores, and tests with object stores that fail.
//
// Conformance is the suite that every object.Store passes. Bucket and Faulty are for the tests of
// packages which use a store: a Bucket is what the store holds, and each Faulty is one process's
// connection to it, with faults of its own.
//
//	b := objecttest.NewBucket(nil)
//	one, two := b.Connect(1), b.Connect(2) // two hosts
//	one.SetFaults(objecttest.Faults{Fail: 0.1, Lose: 0.1, Late: 0.05, LateMax: time.Minute})
//	before := b.Clone()                    // a snapshot
//	one.Kill()                             // the process is gone; what it sent may still land
//	b.Restore(before)                      // the store is rolled back
//
// # Faults
//
// A request meets at most one of: Fail (no effect, ErrTransient), Lose (effect, ErrTransient),
// Late (ErrTransient now, the effect lands later, after other requests) and Hang (no answer until
// the request's context ends). Faults come from rates, or one by one from a Plan.
//
// # Determinism
//
// What happens to a request follows from the connection's seed, the operation, its key and how
// often this connection asked for the same before: never from how goroutines were scheduled. Late
// effects have no goroutine: the first request that arrives at or after their time, on any
// connection, finds them there, in the order of their times.
//
// # Concurrency
//
// Any goroutine may call any method. Hooks are called by the goroutine of the request, several at
// once, with no lock held.
package objecttest
