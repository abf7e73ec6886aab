// Package spec describes both wires of the box, for the people who build the
// other ends: as an AsyncAPI document and as a page, both made from the catalogue.
package spec
