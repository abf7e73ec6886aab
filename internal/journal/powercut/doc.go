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
//
// The rest of it is built for 64-bit Linux alone: go-fuse does not compile for
// 32-bit ARM, where splice returns an int. Nothing of it is in the product.
package powercut
