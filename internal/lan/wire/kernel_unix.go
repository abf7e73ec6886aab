//go:build unix

package wire

import "syscall"

// Direct says whether connections can be carried here: a kernel must say at
// once what it takes and what there is. Where it is false, leave them to the
// library.
const Direct = true

func readNow(fd uintptr, b []byte) (int, error)  { return syscall.Read(int(fd), b) }
func writeNow(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
