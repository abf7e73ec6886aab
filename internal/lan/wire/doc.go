// Package wire carries Engine.IO packets over WebSocket connections: one write
// per burst, one frame per broadcast, no buffer for who is silent.
package wire
