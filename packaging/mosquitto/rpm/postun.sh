if [ "$1" -eq 0 ]; then
    # With a line for a plugin that is not there, Mosquitto does not start.
    for file in $(grep -ls liblwm2m_gateway.so /etc/mosquitto/mosquitto.conf /etc/mosquitto/conf.d/*.conf); do
        echo "lwm2m-gateway-mosquitto: $file loads the plugin, which is gone: delete the lines or the file and" >&2
        echo "    restart Mosquitto. It does not start with them." >&2
    done
fi
