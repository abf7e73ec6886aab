import java.io.File
import java.net.InetAddress
import java.net.NetworkInterface
import java.time.Instant
import java.util.Base64
import kotlin.system.exitProcess
import org.json.JSONObject

/**
 * Runs the terminal on a command line; its lines are those of terminal.mjs.
 *
 *     java -jar terminal.jar BOX TOKEN_FILE SERIAL FOLDER
 */
fun main(args: Array<String>) {
    val (where, tokenFile, serial, folder) = args
    val tokens = FileTokens(File(tokenFile))
    var last: String? = null
    val find = {
        if (where.startsWith("http")) {
            Box("", where, "")
        } else {
            findBox(readPairing(where), last, ownAddress()).also { last = it.address } // an app keeps it over its restarts
        }
    }
    val dir = File(folder)
    val terminal = Terminal(serial, tokens, Outbox(dir), Inbox(File(dir, "asked")), Practice(File(dir, "charged")), find, ::say)
    terminal.connect()
    terminal.resume()
    generateSequence(::readLine).forEach {
        val sale = JSONObject(it)
        terminal.sell(sale.getString("event"), sale.getJSONObject("payload"))
    }
    exitProcess(0)
}

/** In place of the app's login: the file holds what the back-end gave last. */
private class FileTokens(private val file: File) : Tokens {
    @Volatile private var token = file.readText()

    override val venue: String = JSONObject(String(Base64.getUrlDecoder().decode(token.split('.')[1]))).getString("venueId")

    override fun current() = token

    override fun renew(): Boolean {
        val before = token
        token = file.readText()
        return token != before
    }
}

/**
 * In place of the app and its card reader, for practice: a file has what cards were
 * charged with. HOLD=1 is a customer who takes for ever to fetch his receipt.
 */
private class Practice(private val file: File) : Work {
    override fun carryOut(command: JSONObject): JSONObject {
        say("doing", mapOf("name" to command["commandId"]))
        return JSONObject().put("resultStatus", "SUCCESS")
    }

    override fun charge(request: JSONObject): JSONObject {
        file.appendText("${request["requestId"]}\n")
        say("charged", mapOf("name" to request["requestId"]))
        if (System.getenv("HOLD") != null) Thread.currentThread().join()
        return success(request)
    }

    override fun outcome(request: JSONObject): JSONObject {
        if (file.exists() && request.getString("requestId") in file.readLines()) return success(request)
        return result(request, "failed").put("outcomeEvidence", "PRE_AUTHORIZATION")
    }

    private fun success(request: JSONObject) = result(request, "success").put("paymentId", "pay-${request["requestId"]}")

    private fun result(request: JSONObject, status: String) =
        JSONObject().put("requestId", request["requestId"]).put("status", status).put("completedAt", Instant.now().toString())
}

/** On Android: the address of the Wi-Fi, of LinkProperties. */
private fun ownAddress(): InetAddress = NetworkInterface.getNetworkInterfaces().asSequence()
    .filter { it.isUp && !it.isLoopback && it.supportsMulticast() }
    .flatMap { it.inetAddresses.asSequence() }
    .firstOrNull { it.address.size == 4 } ?: InetAddress.getLoopbackAddress()

@Synchronized
private fun say(type: String, members: Map<String, Any?>) {
    println(JSONObject(members + ("t" to type)))
    System.out.flush()
}
