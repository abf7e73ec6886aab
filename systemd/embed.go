// Package systemd carries the files of the service into the binary, since a
// file is embedded only by a package of its own folder.
package systemd

import _ "embed"

// Unit is avoqado-edge.service, the one there is.
//
//go:embed avoqado-edge.service
var Unit []byte

// SysUsers is avoqado-edge.sysusers, which names the service's own user
// (sysusers.d(5)).
//
//go:embed avoqado-edge.sysusers
var SysUsers []byte
