import io.socket.client.AckWithTimeout;
import io.socket.client.IO;
import io.socket.client.Manager;
import io.socket.client.Socket;
import io.socket.engineio.client.Transport;
import io.socket.engineio.parser.Packet;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * The payment terminal of the existing system as a test sees it: the real
 * Socket.IO client of Android with the terminal's own settings, one JSON line on
 * stdout for each thing that happens, one JSON line on stdin for each thing to
 * do. The lines are those of dashboard.mjs; acks of join_room have id 0 (venue)
 * and -1 (table).
 *
 * <pre>java -jar terminal.jar URL TOKEN VENUE TERMINAL [TABLE]</pre>
 */
public final class Terminal {
    private static final long ACK_TIMEOUT_MS = 10_000;

    private final Socket socket;
    private final String venue;
    private final String table;

    // What arrived, as it arrived: the client hands a packet on parsed. Both
    // belong to the client's event thread.
    private final Queue<String> events = new ArrayDeque<>();
    private String lastAck;

    private Terminal(String url, String token, String venue, String terminal, String table) {
        this.venue = venue;
        this.table = table;

        Map<String, String> auth = new HashMap<>();
        auth.put("token", token);
        auth.put("terminalId", terminal);
        IO.Options options = new IO.Options();
        options.auth = auth;
        options.transports = new String[] {"websocket", "polling"};
        options.forceNew = true;
        options.reconnection = true;
        options.reconnectionAttempts = Integer.MAX_VALUE;
        options.reconnectionDelay = 1_000;
        options.reconnectionDelayMax = 30_000;
        options.randomizationFactor = 0.5;
        options.timeout = 30_000;

        socket = IO.socket(URI.create(url), options);
        socket.io().on(Manager.EVENT_TRANSPORT, args -> ((Transport) args[0]).on(Transport.EVENT_PACKET, this::packet));
        socket.on(Socket.EVENT_CONNECT, args -> connected());
        socket.on(Socket.EVENT_DISCONNECT, args -> {
            events.clear();
            say("disconnect", "reason", args[0]);
        });
        socket.on(Socket.EVENT_CONNECT_ERROR, args -> say("connect_error", "message", message(args[0])));
        socket.onAnyIncoming(args -> say("event", "name", args[0], "raw", events.poll()));
    }

    public static void main(String[] args) throws IOException, JSONException {
        if (args.length < 4) {
            System.err.println("usage: java -jar terminal.jar URL TOKEN VENUE TERMINAL [TABLE]");
            System.exit(2);
        }
        Terminal terminal = new Terminal(args[0], args[1], args[2], args[3], args.length > 4 ? args[4] : "");
        terminal.socket.connect();
        terminal.obey(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)));
        System.exit(0); // the test is gone, and so are we
    }

    private void obey(BufferedReader commands) throws IOException, JSONException {
        for (String text = commands.readLine(); text != null; text = commands.readLine()) {
            JSONObject command = new JSONObject(text);
            if (command.has("emit") && command.optBoolean("ack")) {
                emit(command.getString("emit"), command.opt("payload"), command.getInt("id"),
                        command.optLong("timeout", ACK_TIMEOUT_MS));
            } else if (command.has("emit")) {
                socket.emit(command.getString("emit"), command.opt("payload"));
            }
        }
    }

    private void connected() {
        say("connect", "sid", socket.id());
        emit("join_room", object("roomType", "venue", "venueId", venue), 0, ACK_TIMEOUT_MS);
        if (!table.isEmpty()) {
            emit("join_room", object("roomType", "table", "venueId", venue, "tableId", table), -1, ACK_TIMEOUT_MS);
        }
    }

    private void emit(String name, Object payload, int id, long timeout) {
        socket.emit(name, new Object[] {payload}, new AckWithTimeout(timeout) {
            @Override
            public void onSuccess(Object... args) {
                say("ack", "id", id, "raw", lastAck);
            }

            @Override
            public void onTimeout() {
                say("ack", "id", id, "error", "operation has timed out");
            }
        });
    }

    /** Notes the text of an event ("2[…]") or an ack ("3ID[…]") before the client parses it. */
    private void packet(Object... args) {
        Packet<?> packet = (Packet<?>) args[0];
        if (!Packet.MESSAGE.equals(packet.type) || !(packet.data instanceof String text) || text.isEmpty()) {
            return;
        }
        int array = text.indexOf('[');
        String raw = array < 0 ? "" : text.substring(array);
        switch (text.charAt(0)) {
            case '2' -> events.add(raw);
            case '3' -> lastAck = raw;
            case '5' -> events.add(""); // binary: no text of its own
            default -> { }
        }
    }

    private static String message(Object error) {
        if (error instanceof JSONObject refused) {
            return refused.optString("message");
        }
        return error instanceof Throwable failed ? String.valueOf(failed.getMessage()) : String.valueOf(error);
    }

    private static synchronized void say(String type, Object... members) {
        JSONObject line = object(members);
        try {
            System.out.println(line.put("t", type));
        } catch (JSONException e) {
            throw new IllegalStateException(e);
        }
        System.out.flush();
    }

    /** Makes an object of names and values in turn; the library's exception is a checked one. */
    private static JSONObject object(Object... members) {
        JSONObject object = new JSONObject();
        try {
            for (int i = 0; i < members.length; i += 2) {
                object.put((String) members[i], members[i + 1]);
            }
        } catch (JSONException e) {
            throw new IllegalArgumentException(e);
        }
        return object;
    }
}
