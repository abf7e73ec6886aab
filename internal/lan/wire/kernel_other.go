//go:build !unix

package wire

import "errors"

// Direct says whether connections can be carried here: a kernel must say at
// once what it takes and what there is. Windows' sockets wait, or tell later.
const Direct = false

func readNow(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
