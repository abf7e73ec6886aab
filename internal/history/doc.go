// Package history remembers, minute by minute for a week, how much waited for
// the cloud and for how long the way there was closed.
package history
