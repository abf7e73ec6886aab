// Package configs carries the reference configuration into the binary, since
// go:embed cannot reach outside its own folder.
package configs

import _ "embed"

// Reference is the commented reference file, reference.yaml.
//
//go:embed reference.yaml
var Reference []byte
