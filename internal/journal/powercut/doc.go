// Package powercut is a file system that forgets, when the power is cut, what
// was not fsynced.
//
// It is served through FUSE by a process of its own, which the test binary
// starts from itself: a process that maps files it serves itself stops for
// ever, because the garbage collector waits for the fault and the fault for
// the server. The process under test survives the cut. All it notices is that
// every change fails from then on; it lets go of its files, the disk is
// mounted again, and what it finds there is what a machine that lost power
// would have found.
package powercut
