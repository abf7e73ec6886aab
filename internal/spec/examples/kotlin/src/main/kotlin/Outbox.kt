import java.io.File
import java.io.FileOutputStream
import java.net.URLDecoder
import java.net.URLEncoder
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption
import java.util.UUID
import org.json.JSONObject

// region outbox
/**
 * What the box has to get, a file each, oldest first. An app that has a database
 * (Room) makes it a table, and writes the row in the transaction of the sale.
 */
class Outbox(private val dir: File) {
    class Item(val file: File, val event: String, val payload: JSONObject)

    private val refused = File(dir, "refused").apply { mkdirs() }

    /**
     * Returns when the event is on disk. The key is made here, once: every try to
     * send it, also after a power cut, bears the same.
     */
    @Synchronized
    fun add(event: String, payload: JSONObject) {
        val number = 1 + (files().lastOrNull()?.name?.substringBefore('.')?.toLong() ?: 0)
        val name = "${number.toString().padStart(12, '0')}.json"
        val item = JSONObject().put("event", event).put("payload", payload.put("idempotencyKey", UUID.randomUUID().toString()))
        write(dir, name, item)
    }

    @Synchronized
    fun oldest(): Item? = files().firstOrNull()?.let {
        val item = JSONObject(it.readText())
        Item(it, item.getString("event"), item.getJSONObject("payload"))
    }

    @Synchronized
    fun size() = files().size

    @Synchronized
    fun done(item: Item) = check(item.file.delete()) { "delete ${item.file}" }

    /** Puts it aside, for a person to look at, under its key: numbers come again. */
    @Synchronized
    fun refuse(item: Item) =
        check(item.file.renameTo(File(refused, "${item.payload["idempotencyKey"]}.json"))) { "move ${item.file}" }

    private fun files() = dir.listFiles { f -> f.name.endsWith(".json") }!!.sortedBy { it.name }
}

/** Returns when the file is on disk, whole. */
private fun write(dir: File, name: String, value: JSONObject) {
    val fresh = File(dir, "$name.new")
    FileOutputStream(fresh).use {
        it.write(value.toString().toByteArray())
        it.fd.sync()
    }
    check(fresh.renameTo(File(dir, name))) { "rename $fresh" }
    FileChannel.open(dir.toPath(), StandardOpenOption.READ).use { it.force(true) } // the name, too
}
// endregion

// region inbox
/**
 * What this terminal was asked to do, a file for each id: {event, asked, result,
 * told}. What is in here is not begun again, after a power cut in the middle either.
 */
class Inbox(private val dir: File) {
    init {
        dir.mkdirs()
    }

    fun get(id: String): JSONObject? = File(dir, name(id)).takeIf { it.exists() }?.let { JSONObject(it.readText()) }

    /** Returns when it is on disk. */
    fun put(id: String, known: JSONObject) = write(dir, name(id), known)

    /** The ids of what has not been told yet. */
    fun open(): List<String> = dir.list { _, name -> name.endsWith(".json") }!!
        .map { URLDecoder.decode(it.removeSuffix(".json"), "UTF-8") }
        .filterNot { get(it)!!.optBoolean("told") }

    private fun name(id: String) = URLEncoder.encode(id, "UTF-8") + ".json"
}
// endregion
