// Command benchlan measures how the box serves its LAN beside the Node server it replaces, in one run.
//
// One thread makes the load with raw frames and epoll; each peer is a process
// of its own: the box with a journal on this disk, on its own transport and on
// the library's; Node with socket.io and better-sqlite3 (WAL, synchronous=FULL),
// which commits every payment by itself or, "grouped", what came in one turn of
// its event loop; and a bare net.Conn loop, which is the limit for a server in
// Go. Where there are two cores, servers have one and the load the other, so a
// figure is what one core gives. Peers take turns, A B C A B C …; the median of
// each figure counts.
//
//   - Pure fan-out is tpv:log, told to the venue as terminal:log by all peers:
//     300 bytes, neither stored nor answered, so that the disk has no part in it.
//     Under load, 64 events are under way at once, which is what lets a server
//     write several frames together; at the modest rate, one after the other.
//     A copy too few or too many ends the run.
//   - Answers are those to tpv:heartbeat, of which the venue hears one in half a
//     minute: checked, answered, told to nobody.
//   - The durable job is payment_completed with 51 clients: stored and synced,
//     answered, told to the 50 others. Under load each client has one under way.
//   - A connection is what a terminal makes of it: upgrade, CONNECT with a signed
//     token of its own, join_room. RSS is what is more after 499 or 1,999 of them
//     than after the first, two seconds after the server has come to rest.
//   - CPU is of all threads of the server, kernel included, as in utime and stime.
//
// Limits on events are off, and nobody logs a client. See make bench-lan.
package main
