// Command benchdiscover measures how long a terminal looks for its box, over all sorts of networks.
//
// Boxes are the real program, each in a network namespace of its own; so is the
// terminal, in which the real `avoqado-edge discover` runs. They meet at a
// bridge, which can do what switches and access points do: drop multicast, keep
// clients apart. Nothing of the machine's own network takes part.
//
// A find begins when there is a way again (the address is set, the cable is in,
// the other box has left), and ends when the box's signed card was read and
// agreed; a search that ends without a box is followed by the next at once, and
// its time counts. A find that led to a box of another venue is counted as
// wrong, whatever else it found. See make bench-discover.
package main
