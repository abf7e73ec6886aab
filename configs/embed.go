// Package configs carries the reference configuration into the binary, since a
// file is embedded only by a package of its own folder.
package configs

import _ "embed"

// Reference is the commented reference file, reference.yaml.
//
//go:embed reference.yaml
var Reference []byte
