// Package edge carries the pages for developers into the program, since a file is
// embedded only by a package of its own folder.
package edge

import _ "embed"

// Terminals is TERMINALS.md, for who builds a terminal or a dashboard.
//
//go:embed TERMINALS.md
var Terminals []byte

// Backend is BACKEND.md, for who builds the back-end.
//
//go:embed BACKEND.md
var Backend []byte
