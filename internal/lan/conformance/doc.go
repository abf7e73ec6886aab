// Command conformance offers what the official protocol suites of Engine.IO and
// Socket.IO expect of a server.
package main
