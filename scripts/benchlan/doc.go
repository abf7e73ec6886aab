// Command benchlan measures how the box serves its LAN beside the Node server it replaces, in one run.
//
// One process makes the load, another serves it, each on a core of its own
// where the machine has two. See make bench-lan.
package main
