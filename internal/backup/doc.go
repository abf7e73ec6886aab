// Package backup keeps a whole box in one file: its configuration with the
// secrets, what stands in its state directory, and a backup of its journal.
package backup
