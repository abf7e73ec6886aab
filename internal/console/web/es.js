export default {
  skip: "Ir al contenido", language: "Idioma", s: "{n} s", min: "{n} min", h: "{n} h", days: "{n} días", days_one: "{n} día",
  ago: "hace {span}", since: "desde {time}", for: "{span}", never: "nunca", yes: "sí", no: "no", close: "Cerrar",

  // login
  login: "Entrar", login_title: "Caja de {venue}", login_code: "Código", login_token: "Token",
  code_label: "Código de 6 cifras", code_help: "En la caja, ejecute {command}: vale 10 minutos.",
  token_label: "Token de acceso", token_help: "De una persona con rol de gerente, administración o dueño. Al salir deja de valer en esta caja, también para la app de la que viene.",
  logout: "Salir", login_wrong: "No vale o ya caducó.", login_slow: "Demasiados intentos. Espere un momento.",
  login_role: "Su rol ({role}) no puede ver esta página. Pida a gerencia que entre.",
  login_no_box: "La caja no responde. ¿Está en la red del restaurante?",

  // places
  nav: "Secciones", status: "Estado", terminals: "Terminales", events: "Eventos", alerts: "Avisos", box: "Caja",

  // hero
  hero_ok: "Todo en orden", hero_ok_sub: "Cobros y órdenes llegan a la central.", hero_ok_sub_server: "Cobros y órdenes llegan al servidor en la nube.",
  hero_off: "La caja funciona, sin nube", hero_off_sub: "No hay conexión configurada con la central. En el local todo funciona.",
  hero_starting: "Conectando con la central…", hero_starting_sub: "En el local ya funciona todo.",
  hero_draining: "Poniéndose al día", hero_draining_sub: "Faltan {n} eventos por llegar a la central. No hay que hacer nada.", hero_draining_sub_one: "Falta {n} evento por llegar a la central. No hay que hacer nada.",
  hero_lan: "Sin red local desde {time}", hero_internet: "Sin internet desde {time}", hero_broker: "Sin conexión con la nube desde {time}",
  hero_backend: "La central no responde desde {time}",
  hero_safe: "El local sigue funcionando. {n} eventos guardados en esta caja; se envían solos cuando vuelva.",
  hero_safe_one: "El local sigue funcionando. {n} evento guardado en esta caja; se envía solo cuando vuelva.",
  hero_safe_zero: "El local sigue funcionando. Lo que se cobre se guarda en esta caja y se envía solo cuando vuelva.",
  hero_fault: "La caja no puede guardar eventos", hero_fault_sub: "Llame a soporte ahora y no apague la caja.",
  hero_room: "La caja rechaza eventos: no le queda sitio",
  hero_parked: "La central no acepta {n} eventos", hero_parked_one: "La central no acepta {n} evento", hero_parked_sub: "Lo demás llega. Avise a soporte: decide un técnico en la caja.",
  hero_paused: "Envío en pausa desde {time}", hero_paused_sub: "La central lo pidió. {n} eventos guardados en esta caja.", hero_paused_sub_one: "La central lo pidió. {n} evento guardado en esta caja.",
  hero_gone: "La caja no responde desde {time}", hero_gone_sub: "Esta pantalla ya no está al día. Revise la corriente de la caja y la wifi de este aparato.",
  stale: "Lo último que dijo la caja, a las {time}:", live: "En vivo", not_live: "Reconectando…",

  // way
  way: "Camino a la central", lan: "Red local", internet: "Internet", broker: "Nube", backend: "Central",
  ok: "bien", down: "caído", unknown: "no se sabe", off: "no se usa",
  do: "Qué hacer", error: "Lo que vio la caja",

  // causes: what it is | what to do
  c_no_lan: "La caja no tiene red.|Revise el cable de red de la caja y el router.",
  c_no_route: "El router no da salida.|Apague y encienda el router.",
  c_no_internet: "El router no llega a internet.|Apague y encienda el router; si sigue, llame al proveedor de internet.",
  c_dns: "No se encuentran nombres de internet (DNS).|Apague y encienda el router; si sigue, llame al proveedor.",
  c_dns_lie: "La red da direcciones falsas.|Avise a quien cuida la red del local.",
  c_captive_portal: "La red pide entrar en una página web.|Entre una vez en esa página o pida una red sin ella.",
  c_proxy: "El proxy no deja pasar.|Avise a quien cuida la red del local.",
  c_broker_down: "El servidor en la nube no está.|Nada que hacer en el local: avise a soporte.",
  c_no_answer: "El servidor en la nube no contesta.|Nada que hacer en el local: avise a soporte.",
  c_timeout: "La conexión se quedó sin respuesta.|Espere unos minutos; revise el router si sigue.",
  c_lost: "Se perdió la conexión.|Espere un momento: la caja ya lo intenta de nuevo.",
  c_tls: "La conexión segura falla.|Avise a soporte.", c_clock: "El reloj de la caja está mal.|Avise a soporte.",
  c_certificate: "El certificado de la caja no vale.|Avise a soporte.", c_credentials: "La nube no acepta a esta caja.|Avise a soporte.",
  c_client_id_takeover: "Otra caja usa el mismo nombre.|Avise a soporte: hay dos cajas iguales.",
  c_silent: "La central no confirma lo que recibe.|Nada que hacer en el local: avise a soporte.",
  c_interrupted: "Corte de práctica.|Nada: termina solo.",
  c_backend: "La central no confirmó.|Nada que hacer en el local.", c_power: "La caja se quedó sin corriente.|Póngale una corriente segura.",
  c_crash: "El programa se cayó y volvió.|Avise a soporte.", c_stopped: "La caja se apagó en orden.|Nada.",
  c_other: "Fallo de conexión.|Avise a soporte.",

  // tiles
  waiting: "Por enviar", waiting_none: "Nada: la central tiene todo", waiting_none_server: "Nada: el servidor tiene todo", waiting_parked: "menos {n} que la central no acepta", waiting_oldest: "el más antiguo, {ago}", events_n: "{n} eventos", events_n_one: "{n} evento",
  terminals_online: "Terminales", online_of: "{online} de {all} conectadas", nobody_yet: "ninguna en una semana",
  disk: "Disco", disk_free: "{free} libres", disk_of: "de {total}", last_event: "Último evento", no_events: "Todavía no hay eventos",

  // notices
  look: "Hay que mirar",
  n_parked: "{n} eventos que la central no acepta esperan una decisión.", n_parked_one: "{n} evento que la central no acepta espera una decisión.",
  n_level: "Queda poco sitio para eventos: {reason}", n_quarantine: "{n} archivos dañados apartados: llame a soporte.", n_quarantine_one: "{n} archivo dañado apartado: llame a soporte.",
  n_disk: "Solo quedan {free} libres en el disco.", n_stuck: "El disco no termina de escribir.", n_clock: "El reloj de la caja no está sincronizado.",
  n_boxes: "No se oye a las otras cajas del local.", n_discovery: "Las terminales no encuentran la caja solas (mDNS).",
  n_warning: "La conexión funciona, pero no volverá si se cae: {error}", n_rejected: "Un mensaje de la central no se pudo usar.",
  n_flash: "A este ritmo el disco dura {years} años más.",

  // charts
  backlog: "Por enviar a la central", range: "Periodo", r1: "1 hora", r24: "24 horas", r168: "7 días",
  chart_max: "Máximo: {n} a las {time}.", chart_flat: "Nada tuvo que esperar en este periodo.", chart_shade: "En rojo: sin conexión.", chart_none: "Todavía no hay datos de este periodo.",
  outages: "Cortes de los últimos 7 días", report: "informe", outages_none: "Ningún corte.", outage_now: "sigue", outage_line: "{from}, duró {span}", outage_open: "desde {from}, lleva {span}",
  held: "{n} eventos guardados", held_one: "{n} evento guardado", legend_up: "con conexión", legend_down: "sin conexión", legend_none: "caja apagada o sin datos", total_down: "{span} sin conexión en total",
  at_point: "{time}: {n}",

  // terminals
  no_terminals: "Ninguna terminal se ha conectado en una semana. Se conectan solas a esta caja cuando están en la misma red.",
  online: "conectada", offline: "desconectada", t_seen: "Señal de vida", t_missed: "ninguna desde que arrancó la caja", t_address: "Dirección", t_version: "App", t_battery: "Batería", t_waiting: "Por enviar", t_waiting_none: "nada", charging: "cargando", t_who: "Usuario", t_health: "Salud",

  // events
  filter: "Filtrar", filter_help: "nombre, terminal, persona, texto…", kind: "Tipo", all: "Todos", pause: "Pausar", resume: "Seguir", paused_n: "En pausa: {n} nuevos", paused_n_one: "En pausa: {n} nuevo", showing: "{n} eventos a la vista", showing_one: "{n} evento a la vista",
  money: "Cobros", orders: "Órdenes", alerts_class: "Avisos", service: "Servicio", telemetry: "Señales",
  nothing_matches: "Nada coincide con el filtro.", in_cloud: "en la central", at_server: "en el servidor", moved: "enviado de nuevo desde otro lugar", in_box: "guardado en la caja", path: "Camino de este evento",
  p_accepted: "Aceptado", p_stored: "Guardado en disco", p_shown: "Mostrado en el local", p_cloud: "Central",
  p_from: "de {who}", p_at: "en la terminal {terminal}", p_from_cloud: "llegó de la central", p_seq: "con el número {seq}", p_everyone: "a todo el local", p_to: "a {who}",
  p_confirmed: "confirmado", p_confirmed_server: "lo tiene el servidor en la nube; a la central no se le pregunta", p_waiting: "espera; {n} antes", p_waiting_first: "es el siguiente", p_parked: "no lo acepta: {reason}", p_behind: "espera a una decisión sobre el {seq}", p_dropped: "no lo aceptó; un técnico lo descartó", p_moved: "no lo aceptó desde aquí; se envió de nuevo desde otro lugar", p_origin: "vino de allí", p_off: "no hay nube configurada",
  payload: "Contenido", details: "Detalles", expires: "Caduca",
  parked: "Eventos que la central no acepta", parked_help: "Decide un técnico en la caja: {command}", reason: "Motivo", parked_since: "apartado {ago}",

  not_taken: "la central no lo acepta",

  // alerts
  send_alert: "Enviar un aviso al local", level: "Urgencia", l_info: "Información", l_warning: "Atención", l_error: "Problema", l_critical: "Urgente",
  title: "Título", message: "Mensaje", to_whom: "Para quién (sin marcar: todo el local)", to_all: "Todo el local", expires_in: "Mostrar hasta", x_0: "un día", x_15: "15 minutos", x_60: "1 hora", x_480: "8 horas",
  send: "Enviar aviso", sent: "Enviado: está guardado y llega a quien esté conectado; los demás lo ven al volver.", not_sent: "No se envió: {why}", required: "Escriba título y mensaje.", recent_alerts: "Avisos recientes", no_alerts: "Ningún aviso reciente.",
  role_SUPERADMIN: "Superadmin", role_OWNER: "Dueño", role_ADMIN: "Administración", role_MANAGER: "Gerencia", role_WAITER: "Meseros", role_CASHIER: "Caja", role_KITCHEN: "Cocina", role_HOST: "Anfitrión", role_VIEWER: "Consulta",

  // box
  about: "Esta caja", b_name: "Nombre", b_venue: "Local", b_version: "Versión", b_uptime: "Encendida", b_address: "Dirección", b_mdns: "Nombre en la red (mDNS)", b_clock: "Reloj", clock_ok: "sincronizado", clock_bad: "sin sincronizar",
  storage: "Disco y desgaste", b_free: "Libre", b_journal: "Diario de eventos", b_clients: "Conexiones", b_journal_v: "{size} en {n} archivos", b_journal_v_one: "{size} en {n} archivo", b_stored: "Eventos guardados hasta", b_synced: "La central los tiene hasta", b_room: "Sitio para eventos", room_ok: "suficiente", b_written: "Escrito desde el arranque", b_life: "Vida estimada del disco", life_unknown: "aún no se sabe (falta storage.endurance o una hora de marcha)", life_years: "{n} años a este ritmo", b_quarantine: "Archivos dañados",
  cloud: "Nube", b_broker: "Servidor", b_state: "Estado", b_confirm: "Confirma", confirm_backend: "la central", confirm_broker: "el servidor", b_connects: "Conexiones desde el arranque", b_failures: "Fallos por causa", b_config: "Configuración de la central", boxes: "Otras cajas",
  s_online: "conectada", s_offline: "sin conexión", s_connecting: "conectando", s_off: "apagado", s_starting: "empezando", s_failing: "falla", s_joined: "conectada", s_alone: "sola",
  tech: "Para el técnico", docs: "Descripción de eventos y mensajes", problems: "Lo que la caja dice de sí misma", no_problems: "Nada que señalar.", pairing: "Vincular una terminal", pairing_help: "Escanee este código con la terminal: dice dónde está la caja y cómo reconocerla.",

  // events by name
  e_payment_initiated: "Cobro iniciado", e_payment_processing: "Cobro en proceso", e_payment_completed: "Cobro hecho", e_payment_failed: "Cobro fallido", e_order_created: "Orden nueva", e_order_updated: "Orden cambiada", e_order_status_changed: "Orden: nuevo estado", e_order_deleted: "Orden borrada", e_table_status_change: "Mesa: nuevo estado", e_venue_update: "Local actualizado", e_shift_opened: "Turno abierto", e_shift_updated: "Turno cambiado", e_shift_closed: "Turno cerrado", e_system_alert: "Aviso", e_notification_new: "Notificación", e_tpv_command: "Orden a terminal", e_tpv_command_status_changed: "Orden a terminal: estado", e_tpv_message: "Mensaje a terminal", e_tpv_message_ack: "Mensaje leído", e_menu_updated: "Menú actualizado", e_inventory_low_stock: "Poco inventario", e_inventory_out_of_stock: "Sin inventario", e_printer_status: "Impresora", "e_terminal:payment_request": "Cobro pedido a terminal", "e_terminal:payment_result": "Resultado de cobro", "e_terminal:payment_outcome": "Cobro terminado",
};
