package outages

// spanish has every phrase of the report.
func spanish(phrase string) string {
	if text := spanishCause(phrase); text != "" {
		return text
	}
	if text := spanishPlace(phrase); text != "" {
		return text
	}
	if text := spanishRemedy(phrase); text != "" {
		return text
	}
	switch phrase {
	case "Outage %d":
		return "Interrupción %d"
	case "Venue":
		return "Establecimiento"
	case "What happened":
		return "Qué pasó"
	case "Cause":
		return "Causa"
	case "Where":
		return "Dónde"
	case "Began":
		return "Inicio"
	case "Ended":
		return "Fin"
	case "Lasted":
		return "Duración"
	case "it lasts":
		return "continúa"
	case "What the box saw":
		return "Lo que vio el equipo (en inglés)"
	case "What to do":
		return "Qué hacer"
	case "Note":
		return "Nota"
	case "clock unsure":
		return "El reloj del equipo iba atrasado: las horas no son exactas."
	case "What was held":
		return "Qué quedó retenido"
	case "Events":
		return "Eventos"
	case "Positions":
		return "Posiciones"
	case "class money":
		return "pagos"
	case "class orders":
		return "órdenes"
	case "class alerts":
		return "avisos"
	case "class service":
		return "servicio"
	case "Money in what was held":
		return "Dinero en lo retenido"
	case "Kind":
		return "Tipo"
	case "Sum":
		return "Suma"
	case "Currency":
		return "Moneda"
	case "What reached the cloud late":
		return "Qué llegó tarde a la nube"
	case "Longest wait":
		return "Espera más larga"
	case "All there":
		return "Todo entregado"
	case "not yet":
		return "todavía no"
	case "Repeats suppressed: terminals":
		return "Repeticiones suprimidas: terminales"
	case "Repeats suppressed: broadcasts":
		return "Repeticiones suprimidas: mensajes de la nube"
	case "Sent to the cloud again":
		return "Enviados otra vez a la nube"
	case "Terminals":
		return "Terminales"
	case "Of them money":
		return "De ellos pagos"
	case "Waits since":
		return "Espera desde"
	case "others":
		return "otros"
	case "more":
		return "más"
	case "kind payment_initiated":
		return "Cobro iniciado"
	case "kind payment_processing":
		return "Cobro en proceso"
	case "kind payment_completed":
		return "Cobro hecho"
	case "kind payment_failed":
		return "Cobro fallido"
	case "In order":
		return "En orden"
	case "From":
		return "Desde"
	}
	return ""
}

func spanishPlace(phrase string) string {
	switch phrase {
	case "place lan":
		return "Red del establecimiento"
	case "place router":
		return "Router"
	case "place internet":
		return "Internet"
	case "place dns":
		return "Servidor de nombres (DNS)"
	case "place broker":
		return "Broker de la nube"
	case "place credentials":
		return "Credenciales"
	case "place backend":
		return "Back-end"
	case "place power":
		return "Corriente eléctrica"
	case "place box":
		return "El propio equipo"
	case "place drill":
		return "Simulacro"
	}
	return ""
}

func spanishCause(phrase string) string {
	switch phrase {
	case "cause no_lan":
		return "Sin red: cable, Wi-Fi o router apagado"
	case "cause no_router", "cause no_route":
		return "El router no responde"
	case "cause no_internet":
		return "Sin internet"
	case "cause dns":
		return "El servidor de nombres no responde"
	case "cause dns_lie":
		return "El servidor de nombres da una respuesta falsa"
	case "cause captive_portal":
		return "La red pide entrar por una página web"
	case "cause proxy":
		return "El proxy no deja salir al equipo"
	case "cause broker_down":
		return "El broker de la nube está caído"
	case "cause no_answer":
		return "El broker acepta la conexión y no responde"
	case "cause tls":
		return "El certificado del broker no corresponde"
	case "cause clock":
		return "El reloj del equipo está mal"
	case "cause certificate":
		return "El certificado del equipo no sirve"
	case "cause credentials":
		return "El broker rechaza las credenciales del equipo"
	case "cause client_id_takeover":
		return "Dos equipos con el mismo nombre"
	case "cause subscription":
		return "El broker no deja al equipo leer sus temas"
	case "cause protocol":
		return "Lo que responde no es un broker"
	case "cause overflow":
		return "Llegó de la nube más de lo que cabía"
	case "cause journal":
		return "El equipo no puede leer o escribir su disco"
	case "cause parked_full":
		return "El back-end rechaza demasiados eventos"
	case "cause backend":
		return "El back-end no confirma nada"
	case "cause power":
		return "Corte de corriente"
	case "cause crash":
		return "El programa terminó de forma inesperada"
	case "cause stopped":
		return "El equipo fue detenido"
	case "cause interrupted":
		return "Simulacro de interrupción"
	case "cause lost", "cause timeout":
		return "Se perdió la línea"
	}
	return ""
}

func spanishRemedy(phrase string) string {
	switch phrase {
	case "do no_lan":
		return "Revise el cable de red o el Wi-Fi del equipo, y que el router esté encendido."
	case "do no_router", "do no_route":
		return "Reinicie el router; si sigue igual, revise el cable entre el equipo y el router."
	case "do no_internet":
		return "Reinicie el router y llame después al proveedor de internet: la red del establecimiento funciona."
	case "do dns", "do dns_lie":
		return "Revise el servidor de nombres que entrega el router, y la dirección del broker."
	case "do captive_portal":
		return "Entre una vez en la página web de la red, o pida que dejen salir al equipo sin ella."
	case "do proxy":
		return "Revise uplink.proxy con quien administra el proxy."
	case "do broker_down", "do backend", "do parked_full":
		return "Nada que hacer en el establecimiento: avise a soporte; los eventos están a salvo en el equipo."
	case "do no_answer", "do tls", "do protocol", "do subscription":
		return "Revise la dirección y el certificado del broker con soporte."
	case "do clock":
		return "Ponga en hora el equipo, o déjelo llegar a un servidor de hora (NTP, puerto UDP 123)."
	case "do certificate", "do credentials":
		return "Pida a soporte credenciales nuevas para el equipo; no hace falta reiniciar."
	case "do client_id_takeover":
		return "Dos equipos usan el mismo box.id: cambie el de uno o apague la copia."
	case "do overflow", "do journal":
		return "Revise el disco del equipo con `avoqado-edge doctor`."
	case "do power":
		return "Dé al equipo una toma de corriente propia, mejor con batería; lo confirmado está a salvo."
	case "do crash":
		return "Mande a soporte `journalctl -u avoqado-edge` de esa hora; lo confirmado está a salvo."
	case "do stopped", "do interrupted":
		return "Nada, si fue a propósito."
	case "do lost", "do timeout":
		return "Nada si no se repite; si se repite, revise la línea de internet."
	}
	return ""
}
