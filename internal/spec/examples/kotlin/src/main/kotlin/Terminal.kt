import io.socket.client.Ack
import io.socket.client.AckWithTimeout
import io.socket.client.IO
import io.socket.client.Socket
import java.net.URI
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import kotlin.math.max
import kotlin.math.min
import kotlin.random.Random
import org.json.JSONArray
import org.json.JSONObject

/** Where the app keeps what its login gave. */
interface Tokens {
    val venue: String

    fun current(): String

    /** Asks the back-end for a new one; says whether there is one. It may block. */
    fun renew(): Boolean
}

/** What the app does when it is asked. Each may block. */
interface Work {
    /** Returns a tpv_command_result: resultStatus, errorMessage. */
    fun carryOut(command: JSONObject): JSONObject

    /** Charges a card; returns a terminal:payment_result. */
    fun charge(request: JSONObject): JSONObject

    /** Asks the card processor what became of a charge that was cut off. Charges nothing. */
    fun outcome(request: JSONObject): JSONObject
}

class Terminal(
    private val serial: String,
    private val tokens: Tokens,
    private val outbox: Outbox,
    private val inbox: Inbox,
    private val work: Work,
    private val find: () -> Box,
    private val say: (String, Map<String, Any?>) -> Unit,
) {
    // All that follows belongs to this one thread.
    private val line = Executors.newSingleThreadScheduledExecutor()
    private lateinit var socket: Socket
    private val auth = ConcurrentHashMap<String, Any>()
    private var busy = false
    private var failures = 0
    private var missed = 0
    private var at = ""
    private val cut = inbox.open() // by a power cut, before this start

    private val desk = Executors.newSingleThreadExecutor() // where the app works

    // region connect
    /** [find] is findBox with what the app knows. It blocks. */
    fun connect(box: Box = find()) {
        at = box.url
        say("box", mapOf("message" to box.url))
        auth["token"] = tokens.current() // looked up at each connect, so a new one is put here
        auth["terminalId"] = serial
        auth["terminalPaymentAckVersion"] = 1 // it remembers charges
        auth["terminalPaymentProbeVersion"] = 1 // and answers what became of one
        val options = IO.Options().apply {
            @Suppress("UNCHECKED_CAST") // the client calls it a map of texts, and takes numbers
            auth = this@Terminal.auth as Map<String, String>
            transports = arrayOf("websocket")
            forceNew = true
            reconnectionDelayMax = 30_000
            if (box.fingerprint.isNotEmpty()) pin(box.fingerprint)
        }
        socket = IO.socket(URI(box.url), options)
        socket.on(Socket.EVENT_CONNECT) { line.execute { connected() } }
        socket.on(Socket.EVENT_CONNECT_ERROR) { args -> line.execute { notConnected(args[0]) } }
        socket.on("sync_status") { args -> say("status", mapOf("message" to forWaiters(args[0] as JSONObject, outbox.size()))) }
        socket.on("sync_required") { args -> reload((args[0] as JSONObject).getString("reason")) }
        socket.on("authentication_success") { args -> (args[0] as JSONObject).optJSONObject("lease")?.let { line.execute { renew(it) } } }
        socket.on("tpv_command") { args -> line.execute { obey(args[0] as JSONObject) } }
        socket.on("terminal:payment_request") { args -> line.execute { charge(args[0] as JSONObject, args.last() as Ack) } }
        socket.on("terminal:payment_probe") { args -> line.execute { probe(args[0] as JSONObject) } }
        socket.onAnyIncoming { args -> heard(args[0] as String, args.getOrNull(1) as? JSONObject ?: JSONObject()) }
        socket.connect()
    }

    private fun connected() {
        say("connect", emptyMap())
        failures = 0
        missed = 0
        // Events of the venue come by themselves; those of a table or an order
        // alone come to who has joined its room, after each connect.
        socket.emit("join_room", JSONObject(mapOf("roomType" to "venue", "venueId" to tokens.venue)))
        drain()
    }
    // endregion

    // region recover
    /**
     * This client has no connection state recovery. The box knows it by its serial,
     * and by its answers to pings what it has received: what came after is sent again
     * in order, as far as it is still of use, marked "replayed". Whoever has missed
     * what the box no longer has is told sync_required: then fetch what the screen
     * shows anew.
     */
    private fun reload(reason: String) {
        say("reload", mapOf("reason" to reason))
    }

    /**
     * An event may be heard twice, so set what is so ("order o1 is READY") instead of
     * counting ("one more order is ready"). A replayed one makes no sound.
     */
    private fun heard(name: String, payload: JSONObject) {
        say("event", mapOf("name" to name, "raw" to JSONArray(listOf(name, payload)).toString()))
    }
    // endregion

    // region drain
    fun sell(event: String, payload: JSONObject) {
        outbox.add(event, payload) // first to disk: from here on it cannot be lost
        line.execute { drain() }
    }

    /** Sends what the outbox holds, one at a time, until it is empty. */
    private fun drain() {
        if (busy || !socket.connected()) return
        val item = outbox.oldest() ?: return
        busy = true
        socket.emit(item.event, arrayOf(item.payload), object : AckWithTimeout(10_000) {
            override fun onSuccess(vararg args: Any?) = line.execute { answered(item, args[0] as JSONObject) }

            override fun onTimeout() = line.execute { answered(item, null) }
        })
    }

    private fun answered(item: Outbox.Item, ack: JSONObject?) {
        var pause = 0L
        // What a terminal says of itself is answered with success alone, and no code.
        val own = item.event.startsWith("tpv_") || item.event.startsWith("terminal:")
        when {
            // On the disk of the box.
            ack?.optString("durability") == "stored" || (own && ack?.optBoolean("success") == true) -> {
                outbox.done(item)
                failures = 0
                say("stored", mapOf("name" to item.payload["idempotencyKey"], "raw" to "[$ack]"))
            }
            // It will never be taken, and must not stop the others.
            ack != null && !ack.optBoolean("retryable") && ack.optString("code") != "authentication_required" &&
                (!own || failures > 8) -> {
                outbox.refuse(item)
                failures = 0
                say("refused", mapOf("name" to item.payload["idempotencyKey"], "message" to ack.optString("error")))
            }
            // No ack says nothing: it may be stored, or not. It is sent again under the
            // same key, and the box answers as it did the first time ("duplicate").
            else -> pause = max(backoff(), ack?.optLong("retryAfterMs") ?: 0)
        }
        line.schedule({ busy = false; drain() }, pause, TimeUnit.MILLISECONDS)
    }

    /** 1 s, 2 s, 4 s … 30 s, with jitter so that terminals do not come in step. */
    private fun backoff() = (min(30_000, 1_000 shl min(failures++, 5)) * Random.nextDouble(0.5, 1.0)).toLong()
    // endregion

    // region asked
    private fun obey(command: JSONObject) {
        val id = command.getString("commandId")
        val known = inbox.get(id)
        if (known != null) { // it is told what it was told before
            known.optJSONObject("result")?.let { sell("tpv_command_result", it) }
            return
        }
        inbox.put(id, JSONObject().put("event", "tpv_command_result").put("asked", command))
        sell("tpv_command_ack", about(id))
        sell("tpv_command_started", about(id))
        desk.execute {
            val result = work.carryOut(command).put("commandId", id).put("terminalId", serial)
            line.execute { finish(id, result) }
        }
    }

    private fun about(commandId: String) = JSONObject().put("commandId", commandId).put("terminalId", serial)

    private fun charge(request: JSONObject, answer: Ack) {
        val id = request.getString("requestId")
        val known = inbox.get(id)
        val asked = known?.optJSONObject("asked")
        // One id is one charge: not another amount, and not what was said to be unknown.
        val accepted = known == null ||
            asked != null && listOf("amountCents", "tipCents").all { asked.optLong(it) == request.optLong(it) }
        if (known == null) inbox.put(id, JSONObject().put("event", "terminal:payment_result").put("asked", request))
        answer.call(JSONObject().put("accepted", accepted).put("requestId", id)) // within 5 s, and not before it is on disk
        if (known == null) {
            desk.execute {
                val result = work.charge(request)
                line.execute { finish(id, result) }
            }
        } else if (accepted) {
            known.optJSONObject("result")?.let { sell("terminal:payment_result", it) }
        }
    }

    private fun probe(probe: JSONObject) {
        val id = probe.getString("requestId")
        val known = inbox.get(id)
        if (known == null) inbox.put(id, JSONObject().put("told", true)) // should it come after all, it is not charged
        val disposition = when {
            known?.has("result") == true -> "RESOLVED"
            known?.has("asked") == true -> "ACTIVE"
            else -> "NOT_FOUND"
        }
        val said = JSONObject().put("requestId", id).put("disposition", disposition)
        sell("terminal:payment_probe_result", said.put("finalResult", known?.optJSONObject("result")))
    }

    /**
     * The result is on disk, then in the outbox, then marked as told. A power cut in
     * between tells it twice, which the box knows, and never not at all.
     */
    private fun finish(id: String, result: JSONObject) {
        val known = inbox.get(id)!!.put("result", result)
        inbox.put(id, known)
        sell(known.getString("event"), JSONObject(result.toString()))
        inbox.put(id, known.put("told", true))
    }

    /** After a start: what was cut off before it is told, and not done again. */
    fun resume() = desk.execute {
        for (id in cut) {
            val known = inbox.get(id)!!
            val result = known.optJSONObject("result")
                ?: if (known.getString("event") == "terminal:payment_result") {
                    work.outcome(known.getJSONObject("asked"))
                } else {
                    about(id).put("resultStatus", "FAILED").put("errorMessage", "interrupted")
                }
            line.execute { finish(id, result) }
        }
    }
    // endregion

    // region token
    private fun notConnected(error: Any?) {
        val message = if (error is JSONObject) error.optString("message") else "$error"
        say("connect_error", mapOf("message" to message))
        if (socket.isActive) {
            // No way to the box. The client tries on by itself; now and then see
            // whether the box is somewhere else.
            if (++missed % 3 == 0) moved()
            return
        }
        // The box has refused, and then the client does not try again by itself.
        if (message.contains("token", ignoreCase = true) && renewed()) auth["token"] = tokens.current()
        line.schedule({ socket.connect() }, backoff(), TimeUnit.MILLISECONDS)
    }

    private fun moved() {
        val box = runCatching(find).getOrNull()
        if (box == null || box.url == at || socket.connected()) return
        socket.off()
        socket.disconnect()
        connect(box)
    }

    /**
     * The token has ended, and is accepted since the internet is gone. Get a new one
     * as soon as there is a way, and show it.
     */
    private fun renew(lease: JSONObject) {
        say("lease", mapOf("message" to lease.getString("until")))
        tryToRenew()
    }

    private fun tryToRenew() {
        if (!renewed()) {
            line.schedule(::tryToRenew, backoff(), TimeUnit.MILLISECONDS)
            return
        }
        auth["token"] = tokens.current()
        socket.disconnect()
        socket.connect()
    }

    private fun renewed() = runCatching { tokens.renew() }.getOrDefault(false)
    // endregion
}

// region status
/** What a waiter reads. [kept] is what this terminal has not handed over yet. */
fun forWaiters(status: JSONObject, kept: Int): String = when {
    kept > 0 -> "$kept por entregar a la caja"
    status.getString("uplink") == "offline" ->
        "Sin internet. Todo guardado en la caja: ${status.getInt("pendingForThisTerminal")} de esta terminal por enviar"
    status.getInt("pending") > 0 -> "Enviando: faltan ${status.getInt("pending")}"
    else -> "Al día"
}
// endregion
