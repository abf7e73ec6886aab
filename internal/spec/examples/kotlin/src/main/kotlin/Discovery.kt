import io.socket.client.IO
import java.net.InetAddress
import java.net.URI
import java.net.URLDecoder
import java.security.KeyFactory
import java.security.KeyStore
import java.security.MessageDigest
import java.security.SecureRandom
import java.security.Signature
import java.security.cert.CertificateException
import java.security.cert.X509Certificate
import java.security.spec.X509EncodedKeySpec
import java.util.Base64
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import javax.jmdns.JmDNS
import javax.net.ssl.SSLContext
import javax.net.ssl.TrustManagerFactory
import javax.net.ssl.X509TrustManager
import okhttp3.OkHttpClient
import okhttp3.Request
import org.json.JSONObject

// region pairing
/** What the QR code of a box says. No secret: keep it as long as the app is installed. */
data class Pairing(val venue: String, val key: String, val addresses: List<String>)

fun readPairing(text: String): Pairing {
    val uri = URI(text)
    require(uri.scheme == "avoqado-edge" && uri.host == "pair") { "this is no QR code of a box" }
    val members = uri.rawQuery.split('&').map { it.substringBefore('=') to URLDecoder.decode(it.substringAfter('='), "UTF-8") }
    fun one(name: String) = members.first { it.first == name }.second
    require(one("v") == "1") { "this QR code needs a newer app" }
    return Pairing(one("venue"), one("key"), members.filter { it.first == "a" }.map { it.second })
}
// endregion

/** A box that has proven to be the one that was paired. */
data class Box(val address: String, val url: String, val fingerprint: String)

// region discover
/**
 * Returns the box at the address where it was last, at one of the QR code, or
 * wherever mDNS says; whoever answers must prove to be the box that was paired.
 * It blocks for up to 8 s. [wifi] is the address of this terminal itself.
 */
fun findBox(pairing: Pairing, lastAddress: String?, wifi: InetAddress): Box {
    firstOf(listOfNotNull(lastAddress) + pairing.addresses, pairing)?.let { return it }
    JmDNS.create(wifi).use { mdns ->
        val found = mdns.list("_avoqado-edge._tcp.local.", 5_000).flatMap { service ->
            service.inet4Addresses.map { "${it.hostAddress}:${service.port}" }
        }
        return firstOf(found, pairing) ?: error("no box of this venue answers")
    }
}

private fun firstOf(addresses: List<String>, pairing: Pairing): Box? {
    if (addresses.isEmpty()) return null
    val all = Executors.newFixedThreadPool(addresses.size)
    try {
        return all.invokeAny(addresses.map { Callable { ask(it, pairing) } })
    } catch (_: ExecutionException) {
        return null
    } finally {
        all.shutdownNow()
    }
}
// endregion

// region card
/**
 * Asks who is there. mDNS and addresses are hearsay: the signed card is proof. It
 * must be made for this question, by the key of the QR code, for this address.
 */
private fun ask(address: String, pairing: Pairing): Box {
    val nonce = hex(ByteArray(16).also { SecureRandom().nextBytes(it) })
    val request = Request.Builder().url("http://$address/.well-known/avoqado-edge?nonce=$nonce").build()
    val answer = quick.newCall(request).execute().use { it.body()!!.string() }
    val (head, payload, signature) = JSONObject(answer).getString("jws").split('.')
    val header = JSONObject(String(decode(head)))
    // An Ed25519 key in X.509 is these bytes and the 32 of the key (RFC 8410).
    val spki = ED25519 + decode(header.getJSONObject("jwk").getString("x"))
    val signed = Signature.getInstance("Ed25519").run {
        initVerify(KeyFactory.getInstance("Ed25519").generatePublic(X509EncodedKeySpec(spki)))
        update("$head.$payload".toByteArray())
        verify(decode(signature))
    }
    val card = JSONObject(String(decode(payload)))
    val addresses = card.getJSONArray("addresses").let { list -> List(list.length(), list::getString) }
    val proven = signed && header.getString("typ") == "avoqado-edge-card+jws" && sha256(spki) == pairing.key &&
        card.getString("nonce") == nonce && card.getString("venue") == pairing.venue && address in addresses
    check(proven) { "$address is not the box that was paired" }
    val scheme = if (card.getBoolean("tls")) "https" else "http"
    return Box(address, "$scheme://$address", card.optString("fingerprint"))
}

private val ED25519 = byteArrayOf(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00)
private val quick = OkHttpClient.Builder().callTimeout(2, TimeUnit.SECONDS).build()
// endregion

// region pin
/**
 * Believes the box's own CA, known by its fingerprint from the signed card or the
 * QR code, and nobody else; what the CA has signed is checked as usual, and the
 * client checks the address. For lan.tls: auto.
 */
class PinnedTrust(private val fingerprint: String) : X509TrustManager {
    override fun checkServerTrusted(chain: Array<X509Certificate>, authType: String) {
        val ca = chain.firstOrNull { sha256(it.encoded) == fingerprint } ?: throw CertificateException("the box shows another CA")
        val store = KeyStore.getInstance(KeyStore.getDefaultType()).apply { load(null); setCertificateEntry("box", ca) }
        val usual = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm()).apply { init(store) }
        (usual.trustManagers.single() as X509TrustManager).checkServerTrusted(chain, authType)
    }

    override fun checkClientTrusted(chain: Array<X509Certificate>, authType: String) = throw CertificateException("this is a client")

    override fun getAcceptedIssuers() = emptyArray<X509Certificate>()
}

fun IO.Options.pin(fingerprint: String) {
    val trust = PinnedTrust(fingerprint)
    val tls = SSLContext.getInstance("TLS").apply { init(null, arrayOf(trust), null) }
    val client = OkHttpClient.Builder().sslSocketFactory(tls.socketFactory, trust).readTimeout(1, TimeUnit.MINUTES).build()
    callFactory = client
    webSocketFactory = client
}
// endregion

private fun decode(text: String): ByteArray = Base64.getUrlDecoder().decode(text)

private fun sha256(bytes: ByteArray) = hex(MessageDigest.getInstance("SHA-256").digest(bytes))

private fun hex(bytes: ByteArray) = bytes.joinToString("") { "%02x".format(it) }
