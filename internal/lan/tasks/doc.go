// Package tasks keeps what terminals were asked to do or to show, and how far each of them is.
//
// It is a fold over the journal: every change is a stored event, and a [Book]
// that has been shown the events of the last day again knows what it knew
// before. It has no sockets, no clock and no disk of its own.
//
//	                       ┌────────────── cancelled ──────────────► CANCELLED
//	PENDING ─► QUEUED ─► SENT ─► RECEIVED ─► EXECUTING ─► COMPLETED | FAILED
//	    └─────────┴────────┴────────┴── past its validity ────────► EXPIRED
//
// A step may be left out: an old terminal reports its result and nothing else.
// What a terminal says it did stands whatever the box has concluded before.
package tasks
