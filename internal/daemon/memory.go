package daemon

import "runtime/debug"

const (
	usualGC = 100 // Go's own percentage
	boxGC   = 50
)

// tidyOften lets half as much garbage gather as Go does by itself, unless GOGC in
// the environment says otherwise. Most of what a box holds lives as long as its
// connections: 2,000 idle ones take 36 KiB each instead of 44, at no CPU that
// make bench-lan can tell from noise. At 25 it would be 29, for a third more CPU
// under load.
func tidyOften() {
	if before := debug.SetGCPercent(boxGC); before != usualGC {
		debug.SetGCPercent(before)
	}
}
