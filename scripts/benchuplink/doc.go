// Command benchuplink measures how the box drains a backlog to an MQTT broker beside a Mosquitto bridge that drains the same one.
//
// The box is the real program in a process of its own, with a real journal that
// was filled before. The peer is a Mosquitto of its own with a `connection` to
// the same broker (clean session off, persistence on, no bound on its queue),
// whose queue was filled with the same events while that broker was away, each
// a CloudEvents batch of one; it runs with max_inflight_messages at its default
// of 20 and without a limit. The broker is a Mosquitto that is new for each
// drain, without persistence and without limits, the same for both.
//
// Both reach it through a relay in this process, which counts bytes of TCP, both
// ways, and holds each chunk until its time is due, as many at once as there are:
// a line that is long and not narrow. A drain begins when the relay lets the
// peer through and ends when a subscriber at the broker (QoS 1, not through the
// relay) has the last event of the backlog. In "backend" the same subscriber is
// the back-end: it says on acks how far it has everything.
//
//   - CPU is of all threads of the peer, kernel included, for the drain alone.
//   - Memory is what the peer's own pages (RssAnon) took before, and the most they
//     took while it drained, asked every 20 ms; VmHWM counts pages of the journal's files besides, which
//     the kernel takes back when it likes.
//   - Live latency: a client sends an event of an order of its own every 50 ms
//     from the first event of the backlog at the subscriber on, while it drains and for as long afterwards. It counts from before
//     the client sends until its first copy is at the subscriber, be that on
//     events, events/gzip or events/live.
//
// Peers take turns, A B C A B C …; the median of each figure counts. See make
// bench-uplink.
package main
