// A Socket.IO server of the original library, for the client to be judged by.
// Prints its port on the first line and ends when its standard input does.
const http = require('node:http')
const { Server } = require('socket.io')

const server = http.createServer()
const io = new Server(server, { pingInterval: 100, pingTimeout: 2000 })
const ledger = new Map()
let business = 0

io.use((socket, next) => {
  const { token } = socket.handshake.auth
  if (!token) return next(new Error('No authentication token provided'))
  if (token === 'expired') return next(new Error('Token has expired'))
  // Slower than a few pings, which do not wait for CONNECT.
  setTimeout(next, token === 'slow' ? 500 : 0)
})

io.on('connection', (socket) => {
  let beats = 0
  socket.conn.on('heartbeat', () => socket.emit('beat', ++beats))
  socket.emit('hello', { auth: socket.handshake.auth, header: socket.handshake.headers['x-device-name'] })

  socket.on('echo', (payload, ack) => ack(payload))
  socket.on('bare', (ack) => ack())
  socket.on('many', (n) => { for (let i = 0; i < n; i++) socket.emit('one', i) })
  socket.on('kick', () => socket.disconnect())
  socket.on('cut', () => socket.conn.close())
  socket.on('binary', () => socket.emit('bytes', Buffer.from([0, 255])))
  socket.on('join_room', (_, ack) => ack({ success: true }))
  socket.on('tpv:heartbeat', (_, ack) => ack({ success: true }))
  for (const name of ['order_created', 'order_updated', 'payment_initiated', 'payment_completed', 'payment_failed']) {
    socket.on(name, (payload, ack) => {
      const key = payload.idempotencyKey
      const duplicate = ledger.has(key)
      if (!duplicate) {
        ledger.set(key, ledger.size + 1)
        socket.broadcast.emit(name, { ...payload, correlationId: key })
      }
      if (++business % 40 === 0) return socket.conn.close() // stored, not answered
      ack({ success: true, eventId: key, seq: ledger.get(key), durability: 'stored', duplicate })
    })
  }
  socket.on('ledger', (ack) => ack([...ledger.keys()]))
})

server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.on('end', () => process.exit(0)).resume()
