package ledger

import (
	"errors"
	"strings"
)

// ErrUnknownCurrency is returned when a code is not an ISO 4217 currency in use.
var ErrUnknownCurrency = errors.New("unknown currency")

// minorUnits holds the ISO 4217 currencies in use by their number of decimal places.
var minorUnits = map[int32]string{
	0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
	2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC " +
		"CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD " +
		"KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO " +
		"NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL " +
		"THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
	3: "BHD IQD JOD KWD LYD OMR TND",
	4: "CLF UYW",
}

var placesByCurrency = func() map[string]int32 {
	m := make(map[string]int32)
	for places, codes := range minorUnits {
		for _, code := range strings.Fields(codes) {
			m[code] = places
		}
	}
	return m
}()

// MinorUnits is the number of decimal places of a currency: 0 for JPY, 2 for
// CNY, 3 for KWD. It is false for a code that is no currency in use.
func MinorUnits(currency string) (places int32, ok bool) {
	places, ok = placesByCurrency[currency]
	return places, ok
}
