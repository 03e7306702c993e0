"""The paper's experiments and one more, each a file, on a configuration's pairs.

Each file has two functions: `compute(setting)` returns the records, a table with a row
for each case, and `report(setting, records)` a section of the report. `runner` calls
them.
"""

# Name of a study and of its file → what it shows, in the order of the paper.
STUDIES = {
    "table1": "overlap of the brain masks, beside the classical methods",
    "table2": "ablation: C2FViT, +NTG, +MSDA, +fine-tuning (four checkpoints)",
    "contrast": "Fig. 3: DSC against the gamma of the moving image",
    "rotation": "Fig. 4: DSC against a rotation of the moving image",
    "region_overlap": "Fig. 5: Dice of the 12 regions",
    "similarity": "Fig. 6: change of NTG and NCC themselves, against gamma",
    "known_affine": "error in mm on known affines, against gamma",
    "timing": "App. B: training steps a second with NTG and with NCC",
}
