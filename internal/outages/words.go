package outages

import "strings"

// wording finds a phrase in the language of a report.
type wording func(phrase string) string

// or returns the phrase, or the other text where there is none.
func (w wording) or(phrase, other string) string {
	if text := w(phrase); text != phrase {
		return text
	}
	return other
}

// words returns the phrases of the report's language. What has none stays as it
// is, less the word that says what kind of phrase it is.
func (r *Report) words() wording {
	return func(phrase string) string {
		text := english(phrase)
		if r.In == Spanish {
			text = spanish(phrase)
		}
		if text == "" {
			text = phrase
			if kind, name, ok := strings.Cut(phrase, " "); ok && (kind == "cause" || kind == "place" || kind == "class" || kind == "kind") {
				text = name
			}
		}
		return text
	}
}

// english has only what the program's own words do not say to a venue; its
// remedies are those of the outage.
func english(phrase string) string {
	switch phrase {
	case "cause no_lan":
		return "No network: cable, Wi-Fi or router off"
	case "cause no_router", "cause no_route":
		return "The router does not answer"
	case "cause no_internet":
		return "No internet"
	case "cause dns":
		return "The name server does not answer"
	case "cause dns_lie":
		return "The name server gives a wrong answer"
	case "cause captive_portal":
		return "The network wants a login on a web page"
	case "cause proxy":
		return "The proxy does not let the box out"
	case "cause broker_down":
		return "The cloud's broker is down"
	case "cause no_answer":
		return "The broker takes the connection and says nothing"
	case "cause tls":
		return "The broker's certificate does not fit"
	case "cause clock":
		return "The clock of the box is wrong"
	case "cause certificate":
		return "The box's certificate is of no use"
	case "cause credentials":
		return "The broker refuses the box's login"
	case "cause client_id_takeover":
		return "Two boxes with the same name"
	case "cause subscription":
		return "The broker refuses the box its topics"
	case "cause backend":
		return "The back-end confirms nothing"
	case "cause power":
		return "Power cut"
	case "cause crash":
		return "The program ended unexpectedly"
	case "cause stopped":
		return "The box was stopped"
	case "cause interrupted":
		return "An outage drill"
	case "cause lost", "cause timeout":
		return "The line was lost"
	case "place lan":
		return "Network of the venue"
	case "place backend":
		return "Back-end"
	case "place box":
		return "The box itself"
	case "place dns":
		return "Name server (DNS)"
	case "kind payment_initiated":
		return "Payment begun"
	case "kind payment_processing":
		return "Payment under way"
	case "kind payment_completed":
		return "Payment done"
	case "kind payment_failed":
		return "Payment failed"
	case "clock unsure":
		return "The clock of the box ran behind: the times are not exact."
	}
	return ""
}
