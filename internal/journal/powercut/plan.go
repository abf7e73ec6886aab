//go:build linux && (amd64 || arm64)

package powercut

import "math/rand/v2"

// Plan says when the power is cut and what survives.
type Plan struct {
	// Seed decides which of the changes that were not durable survive.
	Seed uint64

	// Step is the change at which the power is cut, counted from the mount: a
	// write, truncation, creation, rename, removal or fsync of anything. Sync
	// counts fsyncs alone. That change may or may not happen, and fails in any
	// case. Zero: not by itself.
	Step, Sync int

	// Ordered says that names become durable in the order they were changed,
	// and that of a new file with its first fsync, as on ext4. Otherwise only
	// an fsync of the directory makes a name durable, as the standards have
	// it, and names that were not may survive in any selection.
	Ordered bool
}

// Report says what happened between a mount and a cut.
type Report struct {
	Steps, Syncs     int  // that were asked for
	Early            bool // the cut came by itself, as planned
	Kept, Torn, Lost int  // changes that were not durable, and what became of them
}

func (p Plan) random() *rand.Rand { return rand.New(rand.NewPCG(p.Seed, 0)) }
