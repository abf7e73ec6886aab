// Package payments keeps the card payments that a POS asked of a terminal, and how far each of them is.
//
// It is a fold over the journal: every change of a state is a stored event, so
// a [Book] that has been shown the events of the last day is in the state of the
// one before it. It has no sockets, no clock and no disk of its own. What it
// would conclude from time, or from a terminal's silence, it says in
// [Book.Due]; that becomes an event first, and counts when it comes back.
//
//	                    ┌── success, or a recorded payment, from any state ──► COMPLETED
//	PENDING ─► SENT ────┼── failed with evidence, never received ────────────► FAILED
//	   │         │      ├── cancelled with evidence ─────────────────────────► CANCELLED
//	   └─ cancel ┴─► CANCEL_REQUESTED
//	                    └── no answer, no evidence ─► UNKNOWN ─► proof, or ──► TIMED_OUT
//	                                                             long silence
//
// The four on the left and UNKNOWN hold the terminal: it gets no other request.
package payments
