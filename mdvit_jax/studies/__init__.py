"""The paper's experiments and one more, each a file, on a configuration's pairs."""

# Study, which is the file beside this one with its `run` → what it shows; in the order
# of the paper, which is that of the report.
STUDIES = {
    "table1": "overlap of the brain masks, beside the classical methods",
    "ablation": "Table 2: C2FViT, +NTG, +MSDA, +fine-tuning (four checkpoints)",
    "contrast": "Fig. 3: DSC against the gamma of the moving image",
    "rotation": "Fig. 4: DSC against a turn of the moving image",
    "regions": "Fig. 5: Dice of the 12 regions",
    "similarity": "Fig. 6: change of NTG and NCC themselves, against gamma",
    "known_affine": "error in mm on affines that are known, against gamma",
    "timing": "App. B: training steps a second with NTG and with NCC",
}
