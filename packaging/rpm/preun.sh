if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now lwm2m-gateway.service || :
fi
