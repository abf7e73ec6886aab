// Command mutants breaks the journal, and the guards at the doors of the box, in
// one place at a time and runs the tests that must notice.
//
// Each mutant is a text in a file and what stands there instead; the compiler
// is given the changed file in the place of the true one, which no one ever
// sees (go test -overlay). Build tags would put every fault into the program
// that is shipped, one flag away from the venue.
package main
